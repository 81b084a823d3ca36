#!/bin/bash
# Says something in a room and waits to hear it: Socket.IO over a WebSocket, in nothing but bash. Arguments: host, port.
set -uo pipefail
trap "" PIPE
host=$1 port=$2
text="helm test $RANDOM$RANDOM"

# A client's frame (RFC 6455): final text, masked with zeros, so that the payload stays as it is. Up to 125 bytes.
frame() {
    printf '\x81'
    printf "\\x$(printf '%02x' $((128 + ${#1})))"
    printf '\0\0\0\0%s' "$1"
}

# What was heard contains the argument, within 10 s. Everything Socket.IO sends here ends in a bracket or a brace.
hear() {
    local heard='' part
    while IFS= read -r -t 10 -d '}' part <&3; do
        heard+=$part
        [[ $heard == *"$1"* ]] && return
    done 2> /dev/null
    return 1
}

say() {
    exec 3<> "/dev/tcp/$host/$port" || return
    printf 'GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n' "$host" >&3
    hear '"sid"' || return
    frame '40{"name":"helm"}' >&3
    hear '"history"' || return
    frame "42[\"message\",\"$text\"]" >&3
    hear "[\"message\",\"$text\"," || return
}

until say 2> /dev/null; do
    echo "$host does not answer yet"
    sleep 2
done
echo "the room said: $text"
