#compdef logfs
# zsh completion for logfs; "logfs completion zsh" prints it.
_logfs() {
	local line
	local -a answers
	for line in ${(f)"$(${(Q)words[1]} completion -- "${(@Q)words[2,CURRENT]}" 2>/dev/null)"}; do
		case $line in
		:files) _files ;;
		:dirs) _files -/ ;;
		:command*)
			shift ${line#:command } words
			((CURRENT -= ${line#:command }))
			_normal
			;;
		*) answers+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}") ;;
		esac
	done
	(($#answers)) && _describe -t logfs logfs answers
}
# Loaded from a file of fpath, this is the function; sourced, it is a script.
if [[ $funcstack[1] == _logfs ]]; then
	_logfs "$@"
else
	compdef _logfs logfs
fi
