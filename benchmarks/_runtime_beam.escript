#!/usr/bin/env escript
%%! +S 2:2 +P 1000000 -kernel logger_level none
%% One sample of the BEAM for benchmarks/runtime.py, as JSON on stdout: what _runtime_samples.py does, with gen_server
%% and supervisor on two schedulers.
%%     escript benchmarks/_runtime_beam.escript ACTORS
-module(runtime_beam).
-mode(compile).
-behaviour(gen_server).
-export([main/1, start_link/0, start_named/0, init/1, handle_call/3, handle_cast/2]).

-define(ASKS, 20000).
-define(TELLS, 100000).
-define(RESTARTS, 500).

start_link() -> gen_server:start_link(?MODULE, [], []).
start_named() -> gen_server:start_link({local, one}, ?MODULE, [], []).

init({sup, Flags, Specs}) -> {ok, {Flags, Specs}};
init([]) -> {ok, 0}.
handle_call(Message, _From, State) -> {reply, Message, State}.
handle_cast(crash, _State) -> exit(crash);
handle_cast(_Message, State) -> {noreply, State}.

main([Text]) ->
    process_flag(trap_exit, true),
    Actors = list_to_integer(Text),
    {ok, One} = start_link(),
    Ask = percentiles("ask", [timed(fun() -> gen_server:call(One, 1) end) || _ <- lists:seq(1, ?ASKS)]),
    TellNs = timed(fun() ->
        [gen_server:cast(One, 1) || _ <- lists:seq(1, ?TELLS)],
        gen_server:call(One, 0, infinity)
    end),
    Restart = percentiles("restart", restarts()),
    {ok, Sup} = supervisor:start_link(?MODULE, {sup, #{strategy => simple_one_for_one},
        [#{id => actor, start => {?MODULE, start_link, []}, restart => temporary, shutdown => 5000}]}),
    Before = rss_kb(),
    SpawnNs = timed(fun() -> [{ok, _} = supervisor:start_child(Sup, []) || _ <- lists:seq(1, Actors)] end),
    IdleKb = (rss_kb() - Before) / Actors,
    StopNs = timed(fun() -> exit(Sup, shutdown), receive {'EXIT', Sup, _} -> ok end end),
    Rows = Ask ++ Restart ++ [
        {"tell_per_s", ?TELLS / (TellNs / 1.0e9)},
        {"spawn_us", SpawnNs / Actors / 1.0e3},
        {"idle_kb", IdleKb},
        {"stop_ms", StopNs / 1.0e6 * 10000 / Actors}
    ],
    Fields = [io_lib:format("\"~s\": ~.4f", [Key, float(Value)]) || {Key, Value} <- Rows],
    io:format("{~s}~n", [lists:join(", ", Fields)]).

restarts() ->
    {ok, _} = supervisor:start_link(?MODULE, {sup, #{intensity => 2 * ?RESTARTS, period => 3600},
        [#{id => one, start => {?MODULE, start_named, []}}]}),
    [timed(fun restart/0) || _ <- lists:seq(1, ?RESTARTS)].

restart() ->
    Old = whereis(one),
    Watch = erlang:monitor(process, Old),
    gen_server:cast(Old, crash),
    receive {'DOWN', Watch, process, Old, _} -> ok end,
    gen_server:call(serving(Old), 1).

serving(Old) ->
    case whereis(one) of
        Pid when is_pid(Pid), Pid =/= Old -> Pid;
        _ -> erlang:yield(), serving(Old)
    end.

timed(Act) ->
    Begin = erlang:monotonic_time(nanosecond),
    Act(),
    erlang:monotonic_time(nanosecond) - Begin.

percentiles(Name, SamplesNs) ->
    Kept = lists:sort(lists:nthtail(length(SamplesNs) div 10, SamplesNs)),
    [{Name ++ "_p50_us", lists:nth(length(Kept) div 2 + 1, Kept) / 1000},
     {Name ++ "_p99_us", lists:nth(trunc(length(Kept) * 0.99) + 1, Kept) / 1000}].

rss_kb() ->
    erlang:garbage_collect(),
    {ok, Text} = file:read_file("/proc/self/statm"),
    4 * binary_to_integer(lists:nth(2, binary:split(Text, <<" ">>, [global]))).
