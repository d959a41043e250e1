#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# usage: agent-rules.sh [DIRECTORY] - what is shipped for Prometheus and Grafana, as far
# as it can be checked without an agent

here=$(cd "$(dirname "$0")" && pwd)
examples=${1:-$here/../kvmstatd/dashboard}
rules=$examples/kvmstatd-rules.yml
tests=$here/agent-rules.yml
. "$here/tap.sh"

rules_hold()
{
	sed "s|- ../kvmstatd/dashboard/kvmstatd-rules.yml|- $rules|" "$tests" \
		>"$tap_dir/tests.yml"
	promtool test rules "$tap_dir/tests.yml"
}

# no rule without a test, no test of a rule that is gone
each_rule_is_tested()
{
	diff <(sed -nE 's/^ *- (alert|record): //p' "$rules" | sort) \
		<(grep -oE 'alertname: \w+|instance_\w+:\w+:\w+' "$tests" |
			sed 's/alertname: //' | sort -u)
}

# each metric that the rules use is one that docs/metrics.md knows; of disks,
# docs/accounting.md has those of reads
metrics_are_known()
{
	local metric

	while read -r metric; do
		case $metric in
		kvm_block_*) metric=${metric#kvm_block_}
			grep -qF "| \`read_${metric#*_}\` " "$here/../../docs/accounting.md" ;;
		*) grep -qF "| \`${metric%_bucket}\` " "$here/../../docs/metrics.md" ;;
		esac || { echo "$metric"; return 1; }
	done < <(sed -nE 's/^ *expr://p; s/^ *(increase|rate|or sum|or [(]|[+>(])/\1/p' "$rules" |
		sed 's/instance_\w*:[a-z0-9_:]*//g' |
		grep -oE '\b(kvm|kvmstatd|process)_[a-z_]+' | sort -u)
}

# As Grafana wants it to be imported; and no series loses the host that it is of, but
# in the totals at the top.
dashboard()
{
	python3 - "$examples/kvmstatd.json" <<'END'
import json, re, sys
board = json.load(open(sys.argv[1]))
assert board["uid"] and board["title"] and not board.get("id")
variables = {v["name"] for v in board["templating"]["list"]}
assert variables == {"datasource", "job", "instance", "vm"}, variables
# a host whose agent is down for longer than is shown is offered, too
offers = {v["name"]: v.get("definition", "") for v in board["templating"]["list"]}
assert offers["instance"].startswith("label_values(up{"), offers
taken, ids = set(), set()
for panel in board["panels"]:
    title = panel["title"]
    assert panel["id"] not in ids, title
    ids.add(panel["id"])
    grid = panel["gridPos"]
    places = {(x, y) for x in range(grid["x"], grid["x"] + grid["w"])
              for y in range(grid["y"], grid["y"] + grid["h"])}
    assert grid["x"] + grid["w"] <= 24 and not places & taken, title
    taken |= places
    if panel["type"] == "row":
        continue
    assert panel["description"], title
    assert panel["datasource"]["uid"] == "${datasource}", title
    targets = panel["targets"]
    assert len({t["refId"] for t in targets}) == len(targets), title
    for target in targets:
        expression = target["expr"]
        used = set(re.findall(r"\$(\w+)", expression)) - {"__rate_interval"}
        assert used <= variables and "instance" in used, (title, expression)
        for selector in re.findall(r"{(.*?)}", expression):
            assert 'instance=~"$instance"' in selector, (title, expression)
        if panel["type"] == "stat":
            continue
        assert "{{instance}}" in target["legendFormat"], (title, target)
        for kept in re.findall(r"\b(?:sum|avg|count|min|max|group)\b *(by *\(.*?\))?", expression):
            assert re.search(r"\binstance\b", kept), (title, expression)
END
}

# Each block is a configuration of its own; the --include there is the one that was
# counted, and leaves what the rules need but for a histogram.
fleet_page()
{
	local page=$here/../../docs/fleet.md block

	ln -s "$rules" "$tap_dir/kvmstatd-rules.yml"
	awk -v dir="$tap_dir" '/^```/ { out = $0 == "```yaml" ? dir "/block-" ++n ".yml" : ""; next }
		out { print >out }' "$page"
	for block in "$tap_dir"/block-*.yml; do
		promtool check config "$block" || return 1
	done
	[ -e "$tap_dir/block-3.yml" ] && python3 - "$here/fleet-cost.py" "$page" "$rules" <<'END'
import ast, re, sys
script = open(sys.argv[1]).read()
lean = ast.literal_eval(script[script.index("LEAN = ") + 7:script.index("CHOICES =")])
assert f"\ninclude = {lean}\n" in open(sys.argv[2]).read(), lean
used = set(re.findall(r"\((k[a-z_]+_total)|expr: ([kp]\w+_[a-z_]+)", open(sys.argv[3]).read()))
used = {one or other for one, other in used}
left_out = {name for name in used if not re.fullmatch(lean, name)}
assert len(used) > 20 and not left_out, left_out
END
}

check "promtool: rules" promtool check rules "$rules"
check "promtool: an example of Prometheus' configuration" \
	promtool check config "$examples/prometheus.yml"
check "each rule does what it says" rules_hold
check "each rule is tested" each_rule_is_tested
check "the rules' metrics are documented" metrics_are_known
check "promtool: the configurations of docs/fleet.md" fleet_page
check "the dashboard can be imported and keeps hosts apart" dashboard
tap_done
