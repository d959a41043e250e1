// SPDX-License-Identifier: GPL-2.0-only
/* User names and passwords */
#include <stdlib.h>
#include <string.h>

#include "http_private.h"

#define MAX_AUTH_JOBS	16

/* A password that is being checked. */
struct auth_job {
	struct auth_job *next;
	struct MHD_Connection *connection;
	struct client *client;
	char *user, *password;
};

static void free_job(struct auth_job *job)
{
	free(job->user);
	if (job->password)
		explicit_bzero(job->password, strlen(job->password));
	free(job->password);
	free(job);
}

/* bcrypt takes its time: not the time of the thread that serves all. */
static void *check_passwords(void *context)
{
	struct http *http = context;
	struct auth_job *job;

	pthread_mutex_lock(&http->lock);
	for (;;) {
		bool good = false, stop;

		while (!http->auth_first && !http->auth_stopping)
			pthread_cond_wait(&http->auth_due, &http->lock);
		job = http->auth_first;
		if (!job)
			break;
		http->auth_first = job->next;
		if (!http->auth_first)
			http->auth_last = &http->auth_first;
		stop = http->auth_stopping;
		pthread_mutex_unlock(&http->lock);
		if (!stop)
			good = web_password_ok(http->web, job->user,
					       job->password);
		pthread_mutex_lock(&http->lock);
		http->auth_jobs--;
		job->client->auth = good ? AUTH_GOOD : AUTH_BAD;
		/* it cannot go before it is resumed */
		MHD_resume_connection(job->connection);
		free_job(job);
	}
	pthread_mutex_unlock(&http->lock);
	return NULL;
}

static enum MHD_Result refuse_password(struct http *http,
				       struct MHD_Connection *connection)
{
	static const char text[] = "a user name and a password are required\n";
	struct MHD_Response *response;
	enum MHD_Result result;

	http->registry->counters.http_unauthorized++;
	response = MHD_create_response_from_buffer(strlen(text), (void *)text,
						   MHD_RESPMEM_PERSISTENT);
	if (!response)
		return MHD_NO;
	result = MHD_queue_basic_auth_fail_response(connection, "kvmstatd",
						    response);
	MHD_destroy_response(response);
	return result;
}

/* Takes over the texts. False if there are too many already, or no memory. */
static bool check_later(struct http *http, struct client *client,
			struct MHD_Connection *connection, char *user,
			char *password)
{
	struct auth_job *job = calloc(1, sizeof(*job));
	bool has_room;

	if (!job)
		return false;
	*job = (struct auth_job){
		.connection = connection, .client = client, .user = user,
		.password = password,
	};
	pthread_mutex_lock(&http->lock);
	has_room = http->auth_jobs < MAX_AUTH_JOBS && !http->auth_stopping;
	if (has_room) {
		MHD_suspend_connection(connection);
		*http->auth_last = job;
		http->auth_last = &job->next;
		http->auth_jobs++;
		pthread_cond_signal(&http->auth_due);
	}
	pthread_mutex_unlock(&http->lock);
	if (!has_room)
		free(job);
	return has_room;
}

/* True if the request may be answered; else *@result is what to return. */
bool is_authorized(struct http *http, struct client *client,
		   struct MHD_Connection *connection,
		   enum MHD_Result *result)
{
	char *user, *given = NULL, *password;
	bool known;

	if (client->auth == AUTH_GOOD)
		return true;
	if (client->auth == AUTH_BAD) {
		*result = refuse_password(http, connection);
		return false;
	}
	user = MHD_basic_auth_get_username_password(connection, &given);
	password = given ? strdup(given) : NULL;
	MHD_free(given);
	given = user ? strdup(user) : NULL;
	MHD_free(user);
	user = given;
	*result = MHD_YES;
	known = user && password &&
		web_password_known(http->web, user, password);
	if (user && password && !known &&
	    check_later(http, client, connection, user, password))
		return false;	/* called again when it is known */
	if (!user || !password)
		*result = refuse_password(http, connection);
	else if (!known)
		*result = answer_text(http, connection,
				      MHD_HTTP_SERVICE_UNAVAILABLE,
				      "too many passwords are being checked at once\n");
	free(user);
	free(password);
	return known;
}

int auth_start(struct http *http)
{
	http->auth_stopping = false;
	http->auth_first = NULL;
	http->auth_last = &http->auth_first;
	if (!http->web || !http->web->num_users)
		return 0;
	if (pthread_create(&http->auth_thread, NULL, check_passwords, http))
		return -1;
	http->has_auth_thread = true;
	return 0;
}

void auth_stop(struct http *http)
{
	pthread_mutex_lock(&http->lock);
	http->auth_stopping = true;
	pthread_cond_signal(&http->auth_due);
	pthread_mutex_unlock(&http->lock);
	if (http->has_auth_thread)
		pthread_join(http->auth_thread, NULL);
	http->has_auth_thread = false;
}
