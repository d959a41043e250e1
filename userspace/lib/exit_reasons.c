// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What the buckets of exits by reason are called: as in Intel's and AMD's manuals
 * and Arm's architecture reference. The buckets are those of stats-fd.rst of the
 * series. What has no name there goes by its number, so that no two are alike.
 */
#include <string.h>

#include "internal.h"

/* Basic exit reasons: SDM, volume 3, appendix C. */
static const char *const vmx[] = {
	[0] = "Exception or NMI", [1] = "External interrupt",
	[2] = "Triple fault", [3] = "INIT signal", [4] = "SIPI",
	[5] = "I/O SMI", [6] = "Other SMI", [7] = "Interrupt window",
	[8] = "NMI window", [9] = "Task switch", [10] = "CPUID",
	[11] = "GETSEC", [12] = "HLT", [13] = "INVD", [14] = "INVLPG",
	[15] = "RDPMC", [16] = "RDTSC", [17] = "RSM", [18] = "VMCALL",
	[19] = "VMCLEAR", [20] = "VMLAUNCH", [21] = "VMPTRLD",
	[22] = "VMPTRST", [23] = "VMREAD", [24] = "VMRESUME",
	[25] = "VMWRITE", [26] = "VMXOFF", [27] = "VMXON",
	[28] = "Control-register accesses", [29] = "MOV DR",
	[30] = "I/O instruction", [31] = "RDMSR", [32] = "WRMSR",
	[33] = "VM-entry failure due to invalid guest state",
	[34] = "VM-entry failure due to MSR loading", [35] = "reason 35",
	[36] = "MWAIT", [37] = "Monitor trap flag", [38] = "reason 38",
	[39] = "MONITOR", [40] = "PAUSE",
	[41] = "VM-entry failure due to machine-check event",
	[42] = "reason 42",
	[43] = "TPR below threshold", [44] = "APIC access",
	[45] = "Virtualized EOI", [46] = "Access to GDTR or IDTR",
	[47] = "Access to LDTR or TR", [48] = "EPT violation",
	[49] = "EPT misconfiguration", [50] = "INVEPT", [51] = "RDTSCP",
	[52] = "VMX-preemption timer expired", [53] = "INVVPID",
	[54] = "WBINVD or WBNOINVD", [55] = "XSETBV", [56] = "APIC write",
	[57] = "RDRAND", [58] = "INVPCID", [59] = "VMFUNC", [60] = "ENCLS",
	[61] = "RDSEED", [62] = "Page-modification log full",
	[63] = "XSAVES", [64] = "XRSTORS", [65] = "reason 65",
	[66] = "SPP-related event",
	[67] = "UMWAIT", [68] = "TPAUSE", [69] = "LOADIWKEY", [70] = "ENCLV",
	[71] = "reason 71",
	[72] = "ENQCMD PASID translation failure",
	[73] = "ENQCMDS PASID translation failure", [74] = "Bus lock",
	[75] = "Instruction timeout", [76] = "SEAMCALL", [77] = "TDCALL",
	[78] = "reason 78", [79] = "other",
};

/* Exit codes: APM, volume 2, appendix C, without VMEXIT_. */
static const char *const svm[] = {
	[0] = "CR0_READ", [1] = "CR3_READ", [2] = "CR4_READ",
	[3] = "CR8_READ", [4] = "CR_READ", [5] = "CR0_WRITE",
	[6] = "CR3_WRITE", [7] = "CR4_WRITE", [8] = "CR8_WRITE",
	[9] = "CR_WRITE", [10] = "DR_READ", [11] = "DR_WRITE", [12] = "EXCP",
	[13] = "EXCP_DB", [14] = "EXCP_BP", [15] = "EXCP_UD",
	[16] = "EXCP_NM", [17] = "EXCP_GP", [18] = "EXCP_PF",
	[19] = "EXCP_AC", [20] = "EXCP_MC", [21] = "INTR", [22] = "NMI",
	[23] = "SMI", [24] = "INIT", [25] = "VINTR", [26] = "CR0_SEL_WRITE",
	[27] = "IDTR_READ", [28] = "GDTR_READ", [29] = "LDTR_READ",
	[30] = "TR_READ", [31] = "IDTR_WRITE", [32] = "GDTR_WRITE",
	[33] = "LDTR_WRITE", [34] = "TR_WRITE", [35] = "RDTSC",
	[36] = "RDPMC", [37] = "PUSHF", [38] = "POPF", [39] = "CPUID",
	[40] = "RSM", [41] = "IRET", [42] = "SWINT", [43] = "INVD",
	[44] = "PAUSE", [45] = "HLT", [46] = "INVLPG", [47] = "INVLPGA",
	[48] = "IOIO", [49] = "MSR", [50] = "TASK_SWITCH",
	[51] = "FERR_FREEZE", [52] = "SHUTDOWN", [53] = "VMRUN",
	[54] = "VMMCALL", [55] = "VMLOAD", [56] = "VMSAVE", [57] = "STGI",
	[58] = "CLGI", [59] = "SKINIT", [60] = "RDTSCP", [61] = "ICEBP",
	[62] = "WBINVD", [63] = "MONITOR", [64] = "MWAIT",
	[65] = "MWAIT_CONDITIONAL", [66] = "XSETBV", [67] = "RDPRU",
	[68] = "EFER_WRITE_TRAP", [69] = "CR_WRITE_TRAP", [70] = "INVPCID",
	[71] = "NPF", [72] = "AVIC_INCOMPLETE_IPI", [73] = "AVIC_NOACCEL",
	[74] = "VMGEXIT", [75] = "INVALID", [76] = "bucket 76",
	[77] = "bucket 77", [78] = "bucket 78", [79] = "other",
};

/* Exception classes of ESR_EL2, then what is no exception. */
static const char *const arm64[] = {
	[0x00] = "Unknown reason", [0x01] = "WF* instruction",
	[0x02] = "class 0x02", [0x03] = "MCR or MRC (CP15)",
	[0x04] = "MCRR or MRRC (CP15)", [0x05] = "MCR or MRC (CP14)",
	[0x06] = "LDC or STC (CP14)", [0x07] = "SVE, SIMD or floating-point",
	[0x08] = "VMRS (CP10)", [0x09] = "Pointer authentication",
	[0x0a] = "class 0x0a", [0x0b] = "class 0x0b", [0x0c] = "MRRC (CP14)",
	[0x0d] = "Branch Target Exception",
	[0x0e] = "Illegal Execution state", [0x0f] = "class 0x0f",
	[0x10] = "class 0x10", [0x11] = "SVC (AArch32)",
	[0x12] = "HVC (AArch32)", [0x13] = "SMC (AArch32)",
	[0x14] = "class 0x14", [0x15] = "SVC", [0x16] = "HVC", [0x17] = "SMC",
	[0x18] = "MSR, MRS or system instruction", [0x19] = "SVE",
	[0x1a] = "ERET", [0x1b] = "class 0x1b", [0x1c] = "PAC fail",
	[0x1d] = "class 0x1d", [0x1e] = "class 0x1e", [0x1f] = "class 0x1f",
	[0x20] = "Instruction Abort, lower Exception level",
	[0x21] = "Instruction Abort, same Exception level",
	[0x22] = "PC alignment fault", [0x23] = "class 0x23",
	[0x24] = "Data Abort, lower Exception level",
	[0x25] = "Data Abort, same Exception level",
	[0x26] = "SP alignment fault", [0x27] = "class 0x27",
	[0x28] = "Floating-point (AArch32)", [0x29] = "class 0x29",
	[0x2a] = "class 0x2a", [0x2b] = "class 0x2b",
	[0x2c] = "Floating-point", [0x2d] = "class 0x2d",
	[0x2e] = "class 0x2e", [0x2f] = "SError interrupt",
	[0x30] = "Breakpoint, lower Exception level",
	[0x31] = "Breakpoint, same Exception level",
	[0x32] = "Software Step, lower Exception level",
	[0x33] = "Software Step, same Exception level",
	[0x34] = "Watchpoint, lower Exception level",
	[0x35] = "Watchpoint, same Exception level", [0x36] = "class 0x36",
	[0x37] = "class 0x37", [0x38] = "BKPT (AArch32)",
	[0x39] = "class 0x39", [0x3a] = "Vector Catch (AArch32)",
	[0x3b] = "class 0x3b", [0x3c] = "BRK", [0x3d] = "class 0x3d",
	[0x3e] = "class 0x3e", [0x3f] = "class 0x3f", [64] = "IRQ",
	[65] = "SError", [66] = "Illegal return", [67] = "other",
};

static const struct {
	const char *stat;
	const char *const *names;
	unsigned int count;
} tables[] = {
	{ "exit_reasons_vmx", vmx, sizeof(vmx) / sizeof(*vmx) },
	{ "exit_reasons_svm", svm, sizeof(svm) / sizeof(*svm) },
	{ "exit_reasons_arm64", arm64, sizeof(arm64) / sizeof(*arm64) },
};

int kvmstats_desc_has_reasons(const struct kvmstats_desc *desc)
{
	return !!kvmstats_desc_reason(desc, desc->size - 1u);
}

const char *kvmstats_desc_reason(const struct kvmstats_desc *desc,
				 unsigned int bucket)
{
	if (kvmstats_desc_type(desc) != KVMSTATS_LINEAR_HIST ||
	    desc->bucket_size != 1)
		return NULL;
	for (size_t i = 0; i < sizeof(tables) / sizeof(*tables); i++)
		if (!strcmp(desc->name, tables[i].stat) &&
		    desc->size == tables[i].count && bucket < desc->size)
			return tables[i].names[bucket];
	return NULL;
}
