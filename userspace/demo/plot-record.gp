# SPDX-License-Identifier: GPL-2.0-only
# gnuplot -e "record='FILE.csv'" /usr/share/kvmstat/plot-record.gp >FILE.svg
# Draw what "kvmstat record" wrote as CSV, by VM: exits, time halted, and how long a vCPU
# waited when it was halted. Needs awk.
set terminal svg size 960,640 dynamic font "sans,12" background "white"
set datafile separator ","
# A sample's lines have times of their own, a little apart: those of the first count.
awk = "awk -F, -v OFS=, 'NR == 1 { for (i = 1; i <= NF; i++) f[$i] = i; next } ".\
	"{ t = $f[\"monotonic_ns\"] / 1e9; if (NR == 2) start = t; ".\
	"if (t - at > $f[\"interval_ns\"] / 4e9) at = t; t = at - start; ".\
	"vm = $f[\"vm\"]; rate = $f[\"rate\"]; p99 = $f[\"p99_high\"] } ".\
	"$f[\"scope\"] != \"vm\" && $f[\"statistic\"] == "
list = system(awk."\"exits\" { n[vm] = 1 } END { for (vm in n) print vm }' ".record." | sort")
# each(STATISTIC, VM, ACTION): TIME,VALUE of a VM
each(stat, vm, action) = "<".awk."\"".stat."\" && vm == \"".vm."\" { ".action." } ".\
	"END { for (t in n) print t, n[t] }' ".record." | sort -t, -k1,1g"
halts = system(awk."\"halt_wait_hist\" && p99 { n = 1 } END { print n + 0 }' ".record)
set multiplot layout 2 + halts,1
set grid
set key outside right
set lmargin 12
set rmargin 16
set xrange [0:*]
set yrange [0:*]
set format y "%.1s%c"
set title "exits a second" offset 0,-0.5
plot for [vm in list] each("exits", vm, "n[t] += rate") using 1:2 \
	with lines lw 2 title vm noenhanced
set format y "%g"
set title "time halted, seconds a second" offset 0,-0.5
plot for [vm in list] each("halt_wait_ns", vm, "n[t] += rate") using 1:2 \
	with lines lw 2 title vm noenhanced
if (halts) {
	set format y "%.0s%cs"
	set logscale y
	set yrange [*:*]
	set title "99 of 100 halts ended within" offset 0,-0.5
	set xlabel "seconds"
	plot for [vm in list] each("halt_wait_hist", vm, "if (p99 > n[t]) n[t] = p99") using 1:2 \
		with steps lw 2 title vm noenhanced
}
unset multiplot
