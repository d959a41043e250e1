/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The web configuration file that Prometheus' exporters share: TLS, passwords,
 * headers. It is immutable once read; a reload makes a new one.
 */
#ifndef KVMSTATD_WEB_H
#define KVMSTATD_WEB_H

#include <stdbool.h>
#include <stddef.h>

struct web_user {
	char *name, *hash;	/* of bcrypt, as crypt(5) has it */
};

struct web_header {
	char *name, *value;
};

enum web_client_auth {
	CLIENT_AUTH_NONE,	/* no certificate is asked for */
	CLIENT_AUTH_VERIFY_IF_GIVEN,
	CLIENT_AUTH_REQUIRE_AND_VERIFY
};

struct web {
	char *certificate, *key;	/* PEM; NULL: no TLS */
	char *client_ca;		/* PEM; NULL: none */
	char priorities[128];		/* as GnuTLS has them */
	enum web_client_auth client_auth;
	struct web_user *users;
	size_t num_users;
	struct web_header *headers;
	size_t num_headers;
};

/* NULL after saying what is wrong and where. */
struct web *web_read(const char *path);
void web_free(struct web *web);

/*
 * Is this the user's password? Takes a tenth of a second, as bcrypt is meant to,
 * unless the same was right before. Any thread.
 */
bool web_password_ok(const struct web *web, const char *user,
		     const char *password);
/* The same without the tenth of a second: known to be right from before. */
bool web_password_known(const struct web *web, const char *user,
			const char *password);

/* Does GnuTLS' session, NULL without TLS, have the certificate that is wanted? */
bool web_client_ok(const struct web *web, void *tls_session);

#endif /* KVMSTATD_WEB_H */
