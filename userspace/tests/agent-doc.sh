#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# usage: agent-doc.sh BUILD-DIR - print docs/metrics.md: its text, and the
# tables that kvmstatd makes, with the recorded kernels

here=$(dirname "$0")
cat "$here/../kvmstatd/metrics.md"
exec "$1/kvmstatd/kvmstatd" --print-metrics-doc \
	"$here"/data/x86_64-*-vm.bin "$here"/data/x86_64-*-vcpu0.bin
