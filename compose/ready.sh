#!/bin/bash
# Asks a service in this container whether it can work now: vigie-ready PORT. The image holds no HTTP client.
exec 3<>"/dev/tcp/127.0.0.1/${1:?port of the service}" || exit 1
printf 'GET /readyz HTTP/1.0\r\nHost: localhost\r\n\r\n' >&3
read -r -t 4 _ status _ <&3 && [ "$status" = 200 ]
