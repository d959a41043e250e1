// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <libgen.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../common/log.h"
#include "web.h"

#ifdef HAVE_WEB
#include <crypt.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <yaml.h>

#define MAX_FILE_BYTES	1048576
#define MAX_KNOWN	64
#define DIGEST_BYTES	32

/* What is read, and where it stands, for messages. */
struct reader {
	const char *path;
	yaml_document_t *document;
	struct web *web;
	char *min_version, *max_version;
};

/* A key of a mapping, and what takes its value. */
struct key {
	const char *name;
	int (*take)(struct reader *reader, const yaml_node_t *value,
		    const struct key *key);
	size_t offset;
};

static int error_at(const struct reader *reader, const yaml_node_t *node,
		    const char *what, const char *detail)
{
	log_error("%s:%zu: %s%s", reader->path, node->start_mark.line + 1, what,
		  detail);
	return -1;
}

static const char *text_of(const yaml_node_t *node)
{
	return node->type == YAML_SCALAR_NODE ?
	       (const char *)node->data.scalar.value : NULL;
}

/* Calls @take for each pair of @node. */
static int each_pair(struct reader *reader, const yaml_node_t *node,
		     int (*take)(struct reader *reader, const yaml_node_t *name,
				 const yaml_node_t *value, const void *context),
		     const void *context)
{
	/* "key:" with nothing behind it */
	if (node->type == YAML_SCALAR_NODE && !*text_of(node))
		return 0;
	if (node->type != YAML_MAPPING_NODE)
		return error_at(reader, node, "must be a mapping of names to values", "");
	for (yaml_node_pair_t *pair = node->data.mapping.pairs.start;
	     pair < node->data.mapping.pairs.top; pair++) {
		yaml_node_t *name, *value;

		name = yaml_document_get_node(reader->document, pair->key);
		value = yaml_document_get_node(reader->document, pair->value);
		if (!text_of(name))
			return error_at(reader, name, "a name must be a string", "");
		if (take(reader, name, value, context))
			return -1;
	}
	return 0;
}

static int take_key(struct reader *reader, const yaml_node_t *name,
		    const yaml_node_t *value, const void *context)
{
	for (const struct key *key = context; key->name; key++)
		if (!strcmp(key->name, text_of(name)))
			return key->take(reader, value, key);
	return error_at(reader, name, "kvmstatd does not know this setting: ",
			text_of(name));
}

/* ---------------------------------------------------------------------- TLS */

/* Relative to the directory of the configuration file. */
static char *read_pem(struct reader *reader, const yaml_node_t *value)
{
	const char *name = text_of(value);
	char *path = NULL, *copy, *bytes = NULL;
	FILE *file = NULL;
	size_t length;

	if (!name || !*name) {
		error_at(reader, value, "must be the name of a file", "");
		return NULL;
	}
	copy = strdup(reader->path);
	if (!copy || (*name == '/' ? asprintf(&path, "%s", name) :
		      asprintf(&path, "%s/%s", dirname(copy), name)) < 0)
		goto out;
	file = fopen(path, "re");
	bytes = calloc(1, MAX_FILE_BYTES);
	if (!file || !bytes) {
		log_error("%s: %s", path, strerror(errno));
		free(bytes);
		bytes = NULL;
		goto out;
	}
	length = fread(bytes, 1, MAX_FILE_BYTES - 1, file);
	if (ferror(file) || length == MAX_FILE_BYTES - 1) {
		log_error("%s: %s", path, ferror(file) ? strerror(errno) :
			  "must be smaller than 1 MiB");
		free(bytes);
		bytes = NULL;
	}
out:
	if (file)
		fclose(file);
	free(copy);
	free(path);
	return bytes;
}

static int take_pem(struct reader *reader, const yaml_node_t *value,
		    const struct key *key)
{
	char **pem = (char **)((char *)reader->web + key->offset);

	free(*pem);
	*pem = read_pem(reader, value);
	return *pem ? 0 : -1;
}

static int take_client_auth(struct reader *reader, const yaml_node_t *value,
			    const struct key *key)
{
	static const struct {
		const char *name;
		enum web_client_auth auth;
	} types[] = {
		{ "NoClientCert", CLIENT_AUTH_NONE }, { "", CLIENT_AUTH_NONE },
		{ "VerifyClientCertIfGiven", CLIENT_AUTH_VERIFY_IF_GIVEN },
		{ "RequireAndVerifyClientCert", CLIENT_AUTH_REQUIRE_AND_VERIFY },
	};
	const char *text = text_of(value);

	(void)key;
	for (size_t i = 0; text && i < sizeof(types) / sizeof(*types); i++)
		if (!strcmp(types[i].name, text)) {
			reader->web->client_auth = types[i].auth;
			return 0;
		}
	return error_at(reader, value, "must be NoClientCert, VerifyClientCertIfGiven ",
			"or RequireAndVerifyClientCert");
}

static int take_version(struct reader *reader, const yaml_node_t *value,
			const struct key *key)
{
	const char *text = text_of(value);
	char **version = key->offset ? &reader->max_version :
			 &reader->min_version;

	if (!text || strlen(text) != 5 || strncmp(text, "TLS1", 4) ||
	    text[4] < '0' || text[4] > '3')
		return error_at(reader, value, "must be TLS10, TLS11, TLS12 or TLS13",
				"");
	free(*version);
	*version = strdup(text);
	return *version ? 0 : -1;
}

/* What has a meaning for Go's library only. */
static int ignore(struct reader *reader, const yaml_node_t *value,
		  const struct key *key)
{
	(void)reader;
	(void)value;
	(void)key;
	return 0;
}

static const struct key tls_keys[] = {
	{ "cert_file", take_pem, offsetof(struct web, certificate) },
	{ "key_file", take_pem, offsetof(struct web, key) },
	{ "client_ca_file", take_pem, offsetof(struct web, client_ca) },
	{ "client_auth_type", take_client_auth, 0 },
	{ "min_version", take_version, 0 },
	{ "max_version", take_version, 1 },
	{ "prefer_server_cipher_suites", ignore, 0 },
	{ NULL, NULL, 0 }
};

static void make_priorities(const struct reader *reader)
{
	char first = reader->min_version ? reader->min_version[4] : '2';
	char last = reader->max_version ? reader->max_version[4] : '3';
	struct web *web = reader->web;
	size_t length;

	length = snprintf(web->priorities, sizeof(web->priorities),
			  "NORMAL:-VERS-ALL");
	for (char minor = first; minor <= last; minor++)
		length += snprintf(web->priorities + length,
				   sizeof(web->priorities) - length,
				   ":+VERS-TLS1.%c", minor);
}

/* What would fail only when libmicrohttpd starts, and without a reason. */
static int check_key(const struct reader *reader)
{
	const struct web *web = reader->web;
	gnutls_certificate_credentials_t credentials;
	gnutls_datum_t certificate = {
		(unsigned char *)web->certificate, strlen(web->certificate)
	};
	gnutls_datum_t key = { (unsigned char *)web->key, strlen(web->key) };
	int ret = gnutls_certificate_allocate_credentials(&credentials);

	if (ret < 0)
		return -1;
	ret = gnutls_certificate_set_x509_key_mem(credentials, &certificate,
						  &key, GNUTLS_X509_FMT_PEM);
	gnutls_certificate_free_credentials(credentials);
	if (ret >= 0)
		return 0;
	log_error("%s: cert_file and key_file: %s", reader->path,
		  gnutls_strerror(ret));
	return -1;
}

static int take_tls(struct reader *reader, const yaml_node_t *value,
		    const struct key *key)
{
	struct web *web = reader->web;

	(void)key;
	if (each_pair(reader, value, take_key, tls_keys))
		return -1;
	if (!web->certificate && !web->key && !web->client_ca)
		return 0;
	if (!web->certificate || !web->key)
		return error_at(reader, value, "TLS needs both cert_file and key_file",
				"");
	if (web->client_auth != CLIENT_AUTH_NONE && !web->client_ca)
		return error_at(reader, value, "client_auth_type needs client_ca_file",
				"");
	if (web->client_auth == CLIENT_AUTH_NONE && web->client_ca)
		return error_at(reader, value, "client_ca_file needs client_auth_type",
				"");
	if (reader->min_version && reader->max_version &&
	    reader->min_version[4] > reader->max_version[4])
		return error_at(reader, value, "min_version is above max_version",
				"");
	make_priorities(reader);
	return check_key(reader);
}

/* -------------------------------------------------------- users and headers */

static int take_user(struct reader *reader, const yaml_node_t *name,
		     const yaml_node_t *value, const void *context)
{
	struct web *web = reader->web;
	const char *hash = text_of(value);
	struct web_user *users;

	(void)context;
	if (!hash || strlen(hash) != 60 || strncmp(hash, "$2", 2) ||
	    !strchr("aby", hash[2]) || hash[3] != '$')
		return error_at(reader, value,
				"must be a bcrypt hash, as htpasswd -nBC 10 prints it, for user ",
				text_of(name));
	users = realloc(web->users, (web->num_users + 1) * sizeof(*users));
	if (!users)
		return -1;
	web->users = users;
	users += web->num_users++;
	users->name = strdup(text_of(name));
	users->hash = strdup(hash);
	return users->name && users->hash ? 0 : -1;
}

static int take_users(struct reader *reader, const yaml_node_t *value,
		      const struct key *key)
{
	(void)key;
	return each_pair(reader, value, take_user, NULL);
}

static int refuse_header(const struct reader *reader, const yaml_node_t *name,
			 const char *const *allowed, size_t count)
{
	char text[200] = "must be one of";
	size_t length = strlen(text);

	for (size_t i = 0; i < count; i++)
		length += snprintf(text + length, sizeof(text) - length, " %s",
				   allowed[i]);
	snprintf(text + length, sizeof(text) - length, ", not ");
	return error_at(reader, name, text, text_of(name));
}

static int take_header(struct reader *reader, const yaml_node_t *name,
		       const yaml_node_t *value, const void *context)
{
	static const char *const names[] = {
		"Content-Security-Policy", "X-Frame-Options",
		"X-Content-Type-Options", "X-XSS-Protection",
		"Strict-Transport-Security",
	};
	struct web *web = reader->web;
	struct web_header *headers;
	const char *text = text_of(value);
	size_t i = 0;

	(void)context;
	while (i < sizeof(names) / sizeof(*names) &&
	       strcmp(names[i], text_of(name)))
		i++;
	if (i == sizeof(names) / sizeof(*names))
		return refuse_header(reader, name, names, i);
	if (!text || strpbrk(text, "\r\n"))
		return error_at(reader, value, "must be a string of one line", "");
	headers = realloc(web->headers,
			  (web->num_headers + 1) * sizeof(*headers));
	if (!headers)
		return -1;
	web->headers = headers;
	headers += web->num_headers++;
	headers->name = strdup(text_of(name));
	headers->value = strdup(text);
	return headers->name && headers->value ? 0 : -1;
}

static int take_headers(struct reader *reader, const yaml_node_t *value,
			const struct key *key)
{
	(void)key;
	return each_pair(reader, value, take_header, NULL);
}

static const struct key http_keys[] = {
	{ "http2", ignore, 0 },		/* this server has HTTP/1.1 only */
	{ "headers", take_headers, 0 },
	{ NULL, NULL, 0 }
};

static int take_http(struct reader *reader, const yaml_node_t *value,
		     const struct key *key)
{
	(void)key;
	return each_pair(reader, value, take_key, http_keys);
}

static const struct key top_keys[] = {
	{ "tls_server_config", take_tls, 0 },
	{ "http_server_config", take_http, 0 },
	{ "basic_auth_users", take_users, 0 },
	{ NULL, NULL, 0 }
};

/* -------------------------------------------------------------------- files */

static int read_document(struct reader *reader, yaml_parser_t *parser)
{
	yaml_document_t document;
	yaml_node_t *root;
	int ret = -1;

	if (!yaml_parser_load(parser, &document)) {
		log_error("%s:%zu: %s", reader->path,
			  parser->problem_mark.line + 1,
			  parser->problem ? parser->problem : "no memory");
		return -1;
	}
	reader->document = &document;
	root = yaml_document_get_root_node(&document);
	if (root)
		ret = each_pair(reader, root, take_key, top_keys);
	else	/* perhaps it is just being written */
		log_error("--web-config %s: it is empty; leave it out for no TLS and passwords",
			  reader->path);
	yaml_document_delete(&document);
	return ret;
}

struct web *web_read(const char *path)
{
	struct reader reader = { .path = path };
	yaml_parser_t parser;
	FILE *file = fopen(path, "re");
	int ret = -1;

	if (!file) {
		log_error("--web-config %s: %s", path, strerror(errno));
		return NULL;
	}
	reader.web = calloc(1, sizeof(*reader.web));
	if (reader.web && yaml_parser_initialize(&parser)) {
		yaml_parser_set_input_file(&parser, file);
		ret = read_document(&reader, &parser);
		yaml_parser_delete(&parser);
	}
	fclose(file);
	free(reader.min_version);
	free(reader.max_version);
	if (!ret)
		return reader.web;
	web_free(reader.web);
	return NULL;
}

/* ---------------------------------------------------------------- passwords */

/* Of user, hash and password: bcrypt need not be asked twice. */
static struct {
	pthread_mutex_t lock;
	unsigned char digests[MAX_KNOWN][DIGEST_BYTES];
	size_t next;
	bool full;
} known = { .lock = PTHREAD_MUTEX_INITIALIZER };

static const char *hash_of(const struct web *web, const char *user)
{
	for (size_t i = 0; i < web->num_users; i++)
		if (!strcmp(web->users[i].name, user))
			return web->users[i].hash;
	return NULL;
}

static bool make_digest(unsigned char digest[DIGEST_BYTES], const char *user,
			const char *hash, const char *password)
{
	gnutls_hash_hd_t handle;

	if (gnutls_hash_init(&handle, GNUTLS_DIG_SHA256) < 0)
		return false;
	/* with their ends, so that no two triples have one text */
	gnutls_hash(handle, user, strlen(user) + 1);
	gnutls_hash(handle, hash, strlen(hash) + 1);
	gnutls_hash(handle, password, strlen(password) + 1);
	gnutls_hash_deinit(handle, digest);
	return true;
}

bool web_password_known(const struct web *web, const char *user,
			const char *password)
{
	const char *hash = hash_of(web, user);
	unsigned char digest[DIGEST_BYTES];
	bool found = false;

	if (!hash || !make_digest(digest, user, hash, password))
		return false;
	pthread_mutex_lock(&known.lock);
	for (size_t i = 0; i < (known.full ? MAX_KNOWN : known.next); i++)
		found |= !gnutls_memcmp(known.digests[i], digest, DIGEST_BYTES);
	pthread_mutex_unlock(&known.lock);
	return found;
}

bool web_password_ok(const struct web *web, const char *user,
		     const char *password)
{
	/* the hash of nothing, so that unknown users take as long as known ones */
	static const char nobody[] =
		"$2y$10$abcdefghijklmnopqrstuuxG8u2oeFzNJZwRYrUXKXUJyQTOQZ7nW";
	const char *hash = hash_of(web, user);
	struct crypt_data *data = calloc(1, sizeof(*data));
	const char *result;
	unsigned char digest[DIGEST_BYTES];
	bool good;

	if (!data)
		return false;
	result = crypt_r(password, hash ? hash : nobody, data);
	good = hash && result && strlen(result) == strlen(hash) &&
	       !gnutls_memcmp(result, hash, strlen(hash));
	explicit_bzero(data, sizeof(*data));
	free(data);
	if (!good || !make_digest(digest, user, hash, password))
		return good;
	pthread_mutex_lock(&known.lock);
	memcpy(known.digests[known.next++], digest, DIGEST_BYTES);
	known.full |= known.next == MAX_KNOWN;
	known.next %= MAX_KNOWN;
	pthread_mutex_unlock(&known.lock);
	return good;
}

bool web_client_ok(const struct web *web, void *tls_session)
{
	unsigned int status = 0, count = 0;

	if (web->client_auth == CLIENT_AUTH_NONE)
		return true;
	if (!tls_session)
		return false;
	if (!gnutls_certificate_get_peers(tls_session, &count) || !count)
		return web->client_auth == CLIENT_AUTH_VERIFY_IF_GIVEN;
	return !gnutls_certificate_verify_peers2(tls_session, &status) &&
	       !status;
}

#else /* without libyaml, GnuTLS or crypt */

struct web *web_read(const char *path)
{
	log_error("--web-config %s: this kvmstatd was built without libyaml, GnuTLS or libcrypt",
		  path);
	return NULL;
}

bool web_password_known(const struct web *web, const char *user,
			const char *password)
{
	(void)web;
	(void)user;
	(void)password;
	return false;
}

bool web_password_ok(const struct web *web, const char *user,
		     const char *password)
{
	return web_password_known(web, user, password);
}

bool web_client_ok(const struct web *web, void *tls_session)
{
	(void)web;
	(void)tls_session;
	return false;
}
#endif

void web_free(struct web *web)
{
	if (!web)
		return;
	free(web->certificate);
	if (web->key)
		explicit_bzero(web->key, strlen(web->key));
	free(web->key);
	free(web->client_ca);
	for (size_t i = 0; i < web->num_users; i++) {
		free(web->users[i].name);
		free(web->users[i].hash);
	}
	free(web->users);
	for (size_t i = 0; i < web->num_headers; i++) {
		free(web->headers[i].name);
		free(web->headers[i].value);
	}
	free(web->headers);
	free(web);
}
