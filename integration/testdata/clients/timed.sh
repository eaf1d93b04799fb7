while IFS= read -r -t 10 line; do
	printf '%s\n' "$line"
done
