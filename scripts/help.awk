# SPDX-License-Identifier: GPL-2.0-only
# Print the verbs (TARGET: ... ## text) and variables (NAME ?= value ## text)
# of makefiles.

/^[a-z][a-z-]*:.*## / {
	name = $0
	sub(/:.*/, "", name)
	text = $0
	sub(/.*## /, "", text)
	verb[++verbs] = sprintf("  make %-18s %s", name, text)
}

/^[A-Z_]+ \?= .*## / {
	value = $0
	sub(/^[A-Z_]+ \?= */, "", value)
	sub(/ *## .*/, "", value)
	text = $0
	sub(/.*## /, "", text)
	variable[++variables] = sprintf("  %-18s %s [%s]", $1, text, value)
}

END {
	print "Verbs:"
	for (i = 1; i <= verbs; i++)
		print verb[i]
	print "\nVariables (make VERB NAME=value) [default]:"
	for (i = 1; i <= variables; i++)
		print variable[i]
}
