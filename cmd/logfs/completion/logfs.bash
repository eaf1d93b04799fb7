# bash completion for logfs; "logfs completion bash" prints it.
# Readline takes : = @ for the end of a word, logfs does not: the words are
# those between blanks, and what readline has set aside is cut off the answers.
# An @ it leaves with what follows.
_logfs() {
	local typed=${COMP_LINE:0:COMP_POINT} breaks=${COMP_WORDBREAKS//[^:=@]/}
	local line words aside=
	read -ra words <<<"$typed"
	[[ $typed == *[[:blank:]] ]] && words+=('')
	local last=${words[-1]}
	[[ $breaks ]] && aside=${last%"${last##*[$breaks]}"} aside=${aside%@}
	local cur=${last#"$aside"}
	COMPREPLY=()
	while IFS= read -r line; do
		case $line in
		:files) compopt -o filenames && mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
		:dirs) compopt -o filenames && mapfile -t COMPREPLY < <(compgen -d -- "$cur") ;;
		:command*) _logfs_command "$cur" ;;
		"$last"*) COMPREPLY+=("${line%%$'\t'*}") && COMPREPLY[-1]=${COMPREPLY[-1]#"$aside"} ;;
		esac
	done < <("$1" completion -- "${words[@]:1}" 2>/dev/null)
}

# _logfs_command CUR: complete the command line behind the first --.
_logfs_command() {
	local first=1
	until [[ ${COMP_WORDS[first++]} == -- ]]; do :; done
	if declare -F _command_offset >/dev/null; then
		_command_offset "$first"
	elif ((COMP_CWORD == first)); then
		mapfile -t COMPREPLY < <(compgen -c -- "$1")
	else
		compopt -o filenames && mapfile -t COMPREPLY < <(compgen -f -- "$1")
	fi
}
complete -F _logfs logfs
