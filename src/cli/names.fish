
# Names on the server, for the commands that take them. The server is asked at each press of Tab.
function __forebay_address
    set -l words (commandline -opc)
    contains -- "$words[2]" fetch list delete
    or return
    string match --regex -- '^(?:unix:|http://).*|.*:[0-9].*' $words[3..-1]
end

function __forebay_names
    set -l words (commandline -opc)
    set -l address (__forebay_address)[1]
    set -l current (commandline -ct | string unescape)
    string match --quiet -- '-*' "$current"
    and return
    set -l slash (string match --regex '^/' -- "$current")
    set -l directory (string match --regex '^/?(.*/)?' -- "$current")[2]
    test -n "$directory"
    or set directory /
    set -l names ($words[1] list $address $directory --names --timeout 2s 2>/dev/null)
    set -q names[1]
    and printf '%s\n' "$slash"$names
end
complete -c forebay -n 'test -n "$(__forebay_address)"' -f -a '(__forebay_names)'
