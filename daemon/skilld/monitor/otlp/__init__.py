"""OpenTelemetry's protocol over HTTP: spans and logs of other programs come in, and ours go to a collector.

listening (who, on which port) -> receiver (may they, how much) -> json_form | protobuf_form -> events
"""

__all__ = []
