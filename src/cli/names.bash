
# Names on the server, for the commands that take them. The server is asked at each press of Tab.
_forebay_names() {
    _forebay "$@"
    local line=${COMP_LINE:0:COMP_POINT} words=() word address='' current='' directory name slash=''
    read -ra words <<< "$line"
    if [[ $line != *[[:space:]] ]]; then
        current=${words[-1]}
        unset 'words[-1]'
    fi
    case ${words[1]-} in
        fetch | list | delete) ;;
        *) return ;;
    esac
    # An option, or the value of one.
    [[ $current == -* ]] && return
    case ${words[-1]} in
        -o | -j | --output | --jobs | --token-file | --timeout | --if-match) return ;;
    esac
    for word in "${words[@]:2}"; do
        case $word in
            unix:* | http://* | *:[0-9]*) address=$word && break ;;
        esac
    done
    [[ $address ]] || return
    [[ $current == /* ]] && slash=/
    directory=${current#/}
    case $directory in
        */*) directory=${directory%/*}/ ;;
        *) directory=/ ;;
    esac
    COMPREPLY=()
    while IFS= read -r name; do
        name=$slash$name
        # What bash takes for the word begins after a colon, if there is one.
        [[ $name == "$current"* ]] && COMPREPLY+=("${name#"${current%"$2"}"}")
    done < <("${words[0]}" list "$address" "$directory" --names --timeout 2s 2> /dev/null)
    compopt -o filenames 2> /dev/null
    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == */ ]] && compopt -o nospace 2> /dev/null
    return 0
}
complete -F _forebay_names -o bashdefault -o default forebay
