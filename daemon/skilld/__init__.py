"""The skilld daemon: process, wiring, socket, command line."""
