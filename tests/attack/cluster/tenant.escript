%% A management API that harms who asks it (47): one port never ends a page, one sends 400 MB, one answers slowly. It runs in a pod with the
%% image of RabbitMQ, because that is there in each cluster with the chart's broker.
%%
%%   escript tenant.escript ENDLESS_PORT HUGE_PORT SLOW_PORT

-define(HUGE, 400).             % blocks of 1 MiB
-define(SLOW, 6000).            % milliseconds: less than the operator waits for one answer

main(Ports) ->
    [Endless, Huge, Slow] = [list_to_integer(Port) || Port <- Ports],
    [spawn(fun() -> listen(Port, Mode) end) || {Port, Mode} <- [{Endless, endless}, {Huge, huge}, {Slow, slow}]],
    receive stop -> ok end.

listen(Port, Mode) ->
    {ok, Listener} = gen_tcp:listen(Port, [binary, {packet, http_bin}, {active, false}, {reuseaddr, true}, {backlog, 100}]),
    accept(Listener, Mode).

accept(Listener, Mode) ->
    {ok, Socket} = gen_tcp:accept(Listener),
    spawn(fun() -> receive go -> serve(Socket, Mode) end end) ! go,
    accept(Listener, Mode).

serve(Socket, Mode) ->
    case gen_tcp:recv(Socket, 0) of
        {ok, {http_request, Method, {abs_path, Path}, _}} ->
            Length = head(Socket, 0),
            inet:setopts(Socket, [{packet, raw}]),
            Length > 0 andalso gen_tcp:recv(Socket, Length),
            answer(Socket, Mode, Method, Path),
            gen_tcp:close(Socket);
        _ -> gen_tcp:close(Socket)
    end.

%% Reads the head; the length of the body.
head(Socket, Length) ->
    case gen_tcp:recv(Socket, 0) of
        {ok, {http_header, _, 'Content-Length', _, Value}} -> head(Socket, binary_to_integer(Value));
        {ok, {http_header, _, _, _, _}} -> head(Socket, Length);
        _ -> Length
    end.

answer(Socket, huge, _, _) ->
    send(Socket, "200 OK", ?HUGE * 1048576),
    blocks(Socket, ?HUGE, binary:copy(<<"[">>, 1048576));
answer(Socket, slow, Method, _) ->
    timer:sleep(?SLOW),
    ordinary(Socket, Method);
answer(Socket, endless, 'GET', Path) ->
    case binary:match(Path, <<"page=">>) of
        nomatch -> ordinary(Socket, 'GET');
        _ ->
            Queues = lists:join(",", lists:duplicate(500, "{\"name\":\"another\",\"vhost\":\"/\",\"type\":\"quorum\"}")),
            Body = iolist_to_binary(["{\"items\":[", Queues, "],\"page_size\":500}"]),
            send(Socket, "200 OK", byte_size(Body)),
            gen_tcp:send(Socket, Body)
    end;
answer(Socket, endless, Method, _) -> ordinary(Socket, Method).

%% As if nothing were there, and everything could be created.
ordinary(Socket, 'GET') -> send(Socket, "404 Not Found", 0);
ordinary(Socket, _) -> send(Socket, "201 Created", 0).

send(Socket, Status, Length) ->
    gen_tcp:send(Socket, ["HTTP/1.1 ", Status, "\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: ", integer_to_list(Length), "\r\n\r\n"]).

blocks(_, 0, _) -> ok;
blocks(Socket, Left, Block) ->
    case gen_tcp:send(Socket, Block) of
        ok -> blocks(Socket, Left - 1, Block);
        _ -> ok
    end.
