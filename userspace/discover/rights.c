// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <sys/capability.h>
#include <sys/prctl.h>

#include "discover.h"

static int set_only(cap_t caps, bool with_ptrace)
{
	static const cap_value_t ptrace[] = { CAP_SYS_PTRACE };

	if (cap_clear(caps) < 0)
		return -errno;
	if (with_ptrace &&
	    (cap_set_flag(caps, CAP_PERMITTED, 1, ptrace, CAP_SET) < 0 ||
	     cap_set_flag(caps, CAP_EFFECTIVE, 1, ptrace, CAP_SET) < 0))
		return -errno;
	return cap_set_proc(caps) < 0 ? -errno : 0;
}

/* Without CAP_SETPCAP the bounding set stays; no exec can use it. */
static void drop_bounding(void)
{
	for (cap_value_t cap = 0; cap < cap_max_bits(); cap++)
		if (cap_drop_bound(cap) < 0 && errno == EPERM)
			break;
}

/*
 * 1 if CAP_SYS_PTRACE is held now, and nothing else; 0 if no capability is;
 * or -errno.
 */
int keep_only_ptrace(void)
{
	cap_flag_value_t held = CAP_CLEAR;
	cap_t caps = cap_get_proc();
	int ret;

	if (!caps)
		return -errno;
	drop_bounding();
	cap_get_flag(caps, CAP_SYS_PTRACE, CAP_PERMITTED, &held);
	ret = set_only(caps, held == CAP_SET);
	cap_free(caps);
	if (!ret && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		ret = -errno;
	return ret ? ret : held == CAP_SET;
}
