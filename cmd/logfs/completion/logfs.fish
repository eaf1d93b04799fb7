# fish completion for logfs; "logfs completion fish" prints it.
function __logfs_complete
    set -l words (commandline -opc) (commandline -ct)
    for line in ($words[1] completion -- $words[2..] 2>/dev/null)
        switch $line
            case :files
                __fish_complete_path (commandline -ct)
            case :dirs
                __fish_complete_directories (commandline -ct) ''
            case ':command *'
                set -l first (math (string replace ':command ' '' -- $line) + 1)
                complete -C "$words[$first..]"
            case '*'
                echo $line
        end
    end
end
complete -c logfs -f -a '(__logfs_complete)'
