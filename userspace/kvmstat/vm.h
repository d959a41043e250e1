/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef KVMSTAT_VM_H
#define KVMSTAT_VM_H

#include <signal.h>
#include <stdatomic.h>

#include "kvmstat.h"

#define NEEDS_RIGHTS \
	"this needs the rights of a debugger: the same user, where " \
	"kernel.yama.ptrace_scope is 0, or CAP_SYS_PTRACE, and no system call " \
	"filter that forbids pidfd_getfd"
/* Checkpatch allows this errno to the kernel only, but containers use it. */
#define PASTE(a, b) a##b
#define NO_SUCH_CALL PASTE(ENO, SYS)

/* One descriptor under observation. */
struct watch {
	struct kvmstats_source *source;
	uint64_t *memory;
	uint64_t *before, *now, *delta, *base;	/* parts of it */
	uint64_t before_ns, now_ns;	/* monotonic */
	int restarts;			/* statistics, in the last interval */
	int error;			/* of the last sample; ends the watch */
	long fd;			/* number over there; -1: none */
	bool owned;			/* the source is ours, not the finder's */
	/* one of all vCPUs of a descriptor: whose record it is, and which */
	const struct kvmstats_source *all;
	size_t index;
};

/* One descriptor of all vCPUs of a VM. Each of them has a watch, too. */
struct vcpus {
	struct kvmstats_source *all;
	uint64_t *records;
	size_t room, count;	/* records; those of vCPUs that have watches */
	uint64_t read_ns;	/* monotonic; 0: not yet */
	int error;		/* of the last read; ends it */
	long fd;		/* as of a watch */
	bool owned;
};

/*
 * One VM: a connection, a process, or descriptors of equal identification
 * that were given to us. The VMs of one process are one of these: the kernel
 * calls them alike. What tells them apart is the descriptors' numbers.
 */
struct vm {
	struct kvmstats_peer *peer;	/* NULL: no connection */
	struct kvmstats_vmm *vmm;	/* NULL: not found by us */
	long pid;			/* 0: unknown */
	long uid, gid;			/* -1: unknown */
	char *name;			/* NULL: ask the peer */
	struct watch *watches;		/* VM first, vCPUs by number, devices */
	size_t count;
	struct vcpus *vcpus;		/* mostly one or none */
	size_t vcpus_count;
	unsigned int rejected;
	struct cpu_time {
		uint64_t run_ns, wait_ns;	/* of all threads, so far */
		uint64_t at_ns;			/* monotonic; 0: not looked */
		double run, wait;		/* parts of the interval, or NAN */
	} cpu;
	int debugfs_error;		/* why its sums cannot be had; 0: not tried */
	int said;			/* vm_problem_code of the last problem that was told */
	bool seen_incomplete;			/* there may be one: seen once */
	bool removed;			/* told of, and about to be freed */
	const char *ending;		/* no connection; has the process ended? */
	uint64_t ending_until_ns;	/* when to ask no longer, monotonic */
	const char *gone;		/* the reason; NULL: alive */
};

/* vm.c */
uint64_t clock_ns(void);
int vm_accept(int listen_fd, struct vm **vm);
/* Takes over @vmm, if not NULL, on success. */
struct vm *vm_new(const char *name, struct kvmstats_vmm *vmm);
int vm_receive(struct vm *vm, struct kvmstats_cache *cache);
/* Takes over @source if @owned, on failure too. */
int vm_add(struct vm *vm, struct kvmstats_source *source, long fd, bool owned);
/* A watch that is ready; 0, or -ENOMEM: then it has ended. */
int vm_append(struct vm *vm, struct watch *watch);
/*
 * The first sample. @since_ns: when there was no such thing yet, so that all of it
 * belongs to the first interval; 0: it is what the first interval starts from.
 */
int watch_open(struct watch *watch, struct kvmstats_source *source,
	       const uint64_t *values, uint64_t now_ns, uint64_t since_ns);
void watch_take(struct watch *watch, const uint64_t *values, uint64_t now_ns);
void watch_end(struct watch *watch);
/* What the finder has found since; 0 or -errno. */
int vm_add_found(struct vm *vm);
/* Of a VM without them, the sums in debugfs below @place; 0 or -errno. */
#define DEBUGFS_PLACE "/sys/kernel/debug/kvm"
int vm_add_debugfs(struct vm *vm, const char *place,
		   struct kvmstats_cache *cache);
void vm_drop_gone(struct vm *vm);
void vm_free(struct vm *vm);
void vm_close_sources(struct vm *vm);
const char *vm_name(const struct vm *vm);
const char *vm_uuid(const struct vm *vm);
void vm_command(long pid, char name[KVMSTATS_MAX_VM_NAME + 1]);
int vm_pidfd(const struct vm *vm);
/* CPU time of the VMM since the last time. */
void vm_sample_cpu(struct vm *vm);
/* Two steps, so that a sum is taken over one and the same moment. */
void vm_sample(struct vm *vm);
void vm_drop_failed(struct vm *vm);
/* Totals count from now on, or from the VM's start. */
void vm_reset(struct vm *vm, bool include_past);

/* missing.c */
/* Which statistics are missing, and why, in words; "" if none are. */
void vm_problem(const struct vm *vm, char *text, size_t text_bytes);
/* The same; why is what was said of the process @other, if that is not 0. */
void vm_problem_as(const struct vm *vm, long other, char *text, size_t text_bytes);
/* Only why: equal texts are equal reasons. */
void vm_problem_reason(const struct vm *vm, char *text, size_t text_bytes);
/* Changes when the reasons do; 0: nothing is missing. */
int vm_problem_code(const struct vm *vm);
/* Devices beyond those that are taken of a VM that was found. */
size_t vm_devices_left_out(const struct vm *vm);

/* vm_vcpus.c */
/* A descriptor of all vCPUs; as vm_add. */
int vm_add_vcpus(struct vm *vm, struct kvmstats_source *all, long fd, bool owned);
bool vm_has_vcpus(const struct vm *vm, const struct kvmstats_source *all);
/* All vCPUs of such descriptors, and those that are new. */
void vcpus_sample(struct vm *vm);
/* Only those that are new; 0 or -errno. */
int vcpus_refresh(struct vm *vm);
/* The descriptor @all, with its watches, is to be dropped. */
void vcpus_fail(struct vm *vm, const struct kvmstats_source *all, int error);
/* What has failed, or all; their watches have ended before. */
void vcpus_drop(struct vm *vm, bool all);

/* fleet.c: the VMs that a request asks for, for as long as they live */
struct fleet_ops {
	/* every interval, when all samples are taken; false ends the run */
	bool (*tick)(void *context);
	/* the last sample of a VM that goes is there; may be NULL */
	void (*last)(void *context, const struct vm *vm);
	/* may be NULL */
	void (*event)(void *context, const struct vm *vm, const char *event,
		      const char *reason);
	/* when input_fd is readable; may be NULL */
	bool (*input)(void *context);
	/* after each wait, whatever ended it; 0 or -errno; may be NULL */
	int (*turn)(void *context);
};

#define TROUBLES 8
#define REASONS 16

struct fleet {
	const struct request *request;
	const struct fleet_ops *ops;
	void *context;
	struct kvmstats_cache *cache;
	struct kvmstats_finder *finder;
	struct vm **vms;
	size_t count;
	int listen_fd;		/* -1: does not listen */
	int handoff_fd;		/* VMMs pass connections over it; -1: none */
	bool preloaded;		/* the library has said so over it */
	int input_fd;		/* -1: none */
	bool wants_cpu;		/* vm_sample_cpu with each sample */
	bool paused;		/* no descriptor free for one more connection */
	bool in_queue;		/* so a VM has not been accepted yet */
	unsigned int no_room;	/* VMs whose descriptors did not fit, and so went */
	bool scanning;		/* all processes; else those given */
	uint64_t next_scan_ns;
	unsigned int hidden;	/* processes that we may not look into */
	struct trouble {	/* what else keeps us from looking, as of now */
		int error;		/* -errno */
		unsigned int count;	/* processes */
		unsigned int said;	/* how many of them */
		long pid;		/* one of them; 0: of none */
	} troubles[TROUBLES];
	bool says_trouble;	/* as it comes, on standard error */
	struct reason {		/* why statistics are missing; said of one VM in full */
		char *text;
		long pid;
	} reasons[REASONS];
	unsigned long interval_ms;
	unsigned long first_ms;	/* to the first sample; 0: the interval */
	uint64_t end_ns;	/* of --duration, monotonic; 0: not begun */
	uint64_t deadline_ns;	/* of the next sample; may be set to now */
	uint64_t sampled_ns;	/* the last time */
	unsigned long samples_left;
	bool sample_on_signal;	/* a last one; what it is written to never waits */
	unsigned long shown;	/* samples and last samples with a VM */
	sigset_t while_waiting;
	bool done;
	bool enough;		/* all samples that were asked for are taken */
};

/* fleet.c: among its own files. Takes over @vm, on failure too. */
int fleet_append(struct fleet *fleet, struct vm *vm);
void fleet_event(struct fleet *fleet, const struct vm *vm, const char *name,
		 const char *reason);
void fleet_say(const struct fleet *fleet, const char *format, ...)
	__printf(2, 3);
void fleet_say_event(const struct fleet *fleet, const struct vm *vm,
		     const char *event, const char *reason);
void fleet_announce_gone(struct fleet *fleet, struct vm *vm);
void fleet_remove_gone(struct fleet *fleet);
void fleet_scan(struct fleet *fleet);
/* missing.c: among them as well. What is missing of it, if that is new. */
void fleet_tell_problem(struct fleet *fleet, struct vm *vm);
/* One more process that could not be inspected. */
void fleet_add_trouble(struct fleet *fleet, long pid, int error);
void fleet_forget_troubles(struct fleet *fleet);
void fleet_say_troubles(struct fleet *fleet);

int fleet_open(struct fleet *fleet, const struct request *request,
	       const struct fleet_ops *ops, void *context);
/* From now on --duration is measured; by fleet_run, unless it was called before. */
void fleet_begin(struct fleet *fleet);
int fleet_run(struct fleet *fleet);
/* Wait for a first VM, at most @wait_ms. 0 or -errno. */
int fleet_await(struct fleet *fleet, unsigned long wait_ms);
void fleet_stop_listening(struct fleet *fleet);
void fleet_close(struct fleet *fleet);
/* Has statistics and is one of those that the request names. */
bool fleet_shows(const struct fleet *fleet, const struct vm *vm);
/* Is one of those, whether it has statistics or not. */
bool fleet_names(const struct fleet *fleet, const struct vm *vm);
/* What could not be read, for each VM and reason: as an event, or a line. */
void fleet_explain(struct fleet *fleet);
/* What keeps us from looking at processes, in words; "" if nothing does. */
void fleet_trouble(const struct fleet *fleet, char *text, size_t text_bytes);
bool fleet_has_trouble(const struct fleet *fleet);
/* Why there is nothing to see, one line, and a status for it. */
int fleet_fail_empty(const struct fleet *fleet);
/* A VM that registered could not be taken, or not as a whole. */
bool fleet_had_no_room(const struct fleet *fleet);
/* No process has a VM, as far as could be seen; on standard error only. */
int fleet_fail_list(const struct fleet *fleet);
/* STATUS_OK, or a status if what was shown is not all there was. */
int fleet_check_complete(const struct fleet *fleet);

/* signals.c */
extern atomic_bool interrupted, hung_up;
void signals_catch(sigset_t *while_waiting, bool hangup_reopens);
bool signals_may_wait(int fd);
/* When --duration ends, monotonic: what waits for a reader then waits no longer. */
void signals_end_at(uint64_t at_ns);
int signals_write(const sigset_t *while_waiting, int fd, const char *text,
		  size_t length);
/* A message, as signals_write. */
int signals_say(int fd, const char *text);
/* 0 after this time, or earlier by a signal; -EINTR or -ETIME if no more is to be waited for. */
int signals_pause(const sigset_t *while_waiting, unsigned int ms);
const char *write_error_text(int error);
/* No wait is ahead any more: a signal ends what is being written. */
void signals_release(const sigset_t *while_waiting);
/* The same, and the program. */
void signals_restore(const sigset_t *while_waiting);
/* While it draws on a terminal that may be stopped, a signal is the end. */
void signals_begin_drawing(const sigset_t *while_waiting);
void signals_end_drawing(void);

/* Text that is collected, and written in one piece at the end of a turn. */
struct output {
	FILE *out;
	char *text;
	size_t length;
	const char *name;	/* of what it is written to */
	int fd;
	bool may_wait;
	bool failed;		/* the last time */
};

int output_open(struct output *output, int fd, const char *name);
/* 0, -EINTR, -ETIME or -errno. */
int output_flush(struct output *output, const sigset_t *while_waiting);
/* What an error of a run is of: the output's name, or else the command's. */
const char *output_what(const struct output *output, const char *command);
void output_close(struct output *output);

/* format_table.c, format_json.c: what a sample is written as */
#define TABLE_INCOMPLETE "out of memory: a table is incomplete"
/* False: it is incomplete, which it says. */
bool table_print(FILE *out, const struct vm *vm, const struct filter *fields,
		 bool all, size_t columns);
void report_sample(FILE *out, const struct vm *vm,
		   const struct request *request);
void report_event(FILE *out, const struct vm *vm, const char *event,
		  const char *reason);
void text_event(FILE *out, const struct vm *vm, const char *event,
		const char *reason);
uint64_t wall_clock_ns(void);
void iso_time(char text[40], uint64_t wall_ns);

#endif /* KVMSTAT_VM_H */
