// SPDX-License-Identifier: GPL-2.0-only
/* The thread of a vCPU, and how others have it pause and stop. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>

#include "guest.h"
#include "../common/quota_uapi.h"

/* Others need the CPU more; short beside the guest's ticks. */
#define YIELD_NS	(NS_PER_MS / 10)

static void set_immediate_exit(struct vcpu *vcpu, uint8_t value)
{
	__atomic_store_n(&vcpu->run->immediate_exit, value, __ATOMIC_SEQ_CST);
}

/*
 * The thread clears immediate_exit before it looks at what is wanted, and
 * others set it after they have said what they want. So either it sees that,
 * or KVM_RUN returns at once; the signal is for when it is in the guest.
 */
static void kick(struct vcpu *vcpu)
{
	set_immediate_exit(vcpu, 1);
	pthread_kill(vcpu->thread, SIGUSR1);
}

void vcpu_pause_until(struct vcpu *vcpu, uint64_t until_ns)
{
	pthread_mutex_lock(&vcpu->lock);
	vcpu->pause_until_ns = until_ns;
	pthread_mutex_unlock(&vcpu->lock);
	kick(vcpu);
}

void vcpu_hold(struct vcpu *vcpu)
{
	pthread_mutex_lock(&vcpu->lock);
	vcpu->held = true;
	pthread_mutex_unlock(&vcpu->lock);
}

void vcpu_release(struct vcpu *vcpu)
{
	pthread_mutex_lock(&vcpu->lock);
	vcpu->held = false;
	pthread_cond_signal(&vcpu->wake);
	pthread_mutex_unlock(&vcpu->lock);
}

void vcpu_stop(struct vcpu *vcpu)
{
	pthread_mutex_lock(&vcpu->lock);
	vcpu->stop = true;
	pthread_cond_signal(&vcpu->wake);
	pthread_mutex_unlock(&vcpu->lock);
	kick(vcpu);
}

uint64_t vcpu_asleep_ns(struct vcpu *vcpu)
{
	uint64_t asleep_ns;

	pthread_mutex_lock(&vcpu->lock);
	asleep_ns = vcpu->asleep_ns;
	pthread_mutex_unlock(&vcpu->lock);
	return asleep_ns;
}

/* Because of the policy; under the lock. */
static void sleep_for_policy(struct vcpu *vcpu, uint64_t now)
{
	if (vcpu->held)
		pthread_cond_wait(&vcpu->wake, &vcpu->lock);
	else
		cond_wait_until(&vcpu->wake, &vcpu->lock, vcpu->pause_until_ns);
	vcpu->asleep_ns += now_ns() - now;
}

/* False if it is to stop, true when it may run; waits until either. */
static bool may_run(struct vcpu *vcpu)
{
	bool stop;
	uint64_t now;

	set_immediate_exit(vcpu, 0);
	pthread_mutex_lock(&vcpu->lock);
	while (!vcpu->stop) {
		now = now_ns();
		if (vcpu->held || vcpu->pause_until_ns > now)
			sleep_for_policy(vcpu, now);
		else if (vcpu->next_ns > now)
			cond_wait_until(&vcpu->wake, &vcpu->lock,
					vcpu->next_ns);
		else
			break;
	}
	stop = vcpu->stop;
	pthread_mutex_unlock(&vcpu->lock);
	return !stop;
}

/*
 * The guest waits for its timer. As with real timers, one tick that came while
 * the guest was busy or stopped is pending, any more are lost: nothing is made
 * up for later.
 */
static void wait_for_tick(struct vcpu *vcpu)
{
	uint64_t now = now_ns();

	if (!vcpu->tick_ns)
		return;
	vcpu->next_ns += vcpu->tick_ns;
	if (vcpu->next_ns + vcpu->tick_ns <= now)
		vcpu->next_ns += (now - vcpu->next_ns) / vcpu->tick_ns *
				 vcpu->tick_ns;
}

static void handle_exit(struct vcpu *vcpu)
{
	const struct policy *policy = vcpu->sim->options.policy;

	if (guest_waits(vcpu))
		wait_for_tick(vcpu);
	else if (guest_yields(vcpu))
		sleep_ns(YIELD_NS);
	else if (vcpu->run->exit_reason == QUOTA_EXIT_FULL &&
		 policy->quota_full)
		policy->quota_full(vcpu->sim, vcpu);
	else
		die("vCPU %u: unexpected exit, reason %u", vcpu->index,
		    vcpu->run->exit_reason);
}

void *vcpu_thread(void *argument)
{
	struct vcpu *vcpu = argument;

	vcpu->next_ns = now_ns();
	while (may_run(vcpu)) {
		if (!ioctl(vcpu->fd, KVM_RUN, 0))
			handle_exit(vcpu);
		else if (errno != EINTR && errno != EAGAIN)
			die("vCPU %u: KVM_RUN: %s", vcpu->index,
			    strerror(errno));
	}
	return NULL;
}
