
# Names on the server, for the commands that take them. The server is asked at each press of Tab.
(( $+functions[_forebay_names] )) ||
_forebay_names() {
    local word address directory slash='' current=${(Q)PREFIX}
    local -a names
    for word in "${(@Q)words[2,CURRENT-1]}"; do
        case $word in
            unix:* | http://* | *:[0-9]*) address=$word && break ;;
        esac
    done
    if [[ -z $address ]]; then
        _default
        return
    fi
    [[ $current == /* ]] && slash=/
    directory=${current#/}
    case $directory in
        */*) directory=${directory%/*}/ ;;
        *) directory=/ ;;
    esac
    names=(${(f)"$(_call_program names forebay list ${(q)address} ${(q)directory} --names --timeout 2s 2> /dev/null)"})
    # A directory gets no space after it.
    compadd -S '' -- $slash${^${(M)names:#*/}}
    compadd -- $slash${^${names:#*/}}
}
