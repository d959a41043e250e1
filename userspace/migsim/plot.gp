# SPDX-License-Identifier: GPL-2.0-only
# gnuplot -e "lab='DIR'; scenario='NAME'; vcpus=N" plot.gp >NAME.svg
# DIR/POLICY.csv: sample,label,policy,ms,pages,progress of vCPU 0,1,...
set terminal svg size 960,880 dynamic font "sans,12" background "white"
set datafile separator ","
set multiplot layout 4,1 title scenario
set grid
set key outside right
set lmargin 10
set rmargin 22
set ylabel "pages"
set yrange [0:*]
set title "pages that are still to be sent" offset 0,-0.5
policies = "none auto-converge dirty-quota"
plot for [p in policies] lab."/".p.".csv" using ($4/1000):5 \
	with lines lw 2 title p
set yrange [0:1.1]
set ylabel "progress"
do for [p in policies] {
	set title "progress of each vCPU, ".p offset 0,-0.5
	if (p eq "dirty-quota") { set xlabel "seconds" }
	plot for [v=0:vcpus-1] lab."/".p.".csv" using ($4/1000):(column(6+v)) \
		with lines title sprintf("vCPU %d", v)
}
unset multiplot
