/*
 * A parent for one program: it holds a refreshable lease, watches it, and hands each new key on. It
 * must hand signals on while it waits for the broker, so they are handed on by their handler; the
 * rest is one loop. Connects twice: what is told must not be lost while a call waits for its reply.
 */
#include "cli/supervise.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/env.h"
#include "base/macros.h"
#include "cli/cli.h"
#include "cli/exec.h"
#include "cli/key_file.h"
#include "cli/patience.h"
#include "cli/text.h"
#include "clients/c/wire.h"
#include "proto/message.h"

enum {
	SUPERVISE_STOP_MS = 10000, /* a program that is to start again may take so long to end */
	SUPERVISE_CALL_MS = 2000,  /* a call may keep us from noticing the program's end */
	SUPERVISE_PAUSE_MS = 500,  /* after a failure, doubling */
	SUPERVISE_MOST_PAUSE_MS = 60000,
};

struct supervisor {
	const struct cli *c;
	int signal;	      /* for the program when its file is new; 0: none */
	struct key_file file; /* absolute; none: the key goes into the environment */
	struct keybroker *calls, *watch;
	struct keybroker_lease *key; /* for the next start; wiped once it is handed on */
	char lease[64], hash[16];
	int64_t generation;
	bool watching; /* the broker tells us what becomes of the lease */
	bool behind;   /* there may be another key */
	bool troubled; /* it was said that something fails */
	int64_t retry_at_ms, pause_ms;
	int status;	    /* that it ended with, as waitpid() says it */
	int64_t kill_at_ms; /* the program was told to end, to be started again; 0: it was not */
};

/* For the signal handlers. */
static volatile sig_atomic_t supervise_child;  /* 0: none */
static volatile sig_atomic_t supervise_ending; /* the signal by which somebody has told it to end */
static int supervise_wake[2] = { -1, -1 };

static const int supervise_handed_on[] = { SIGHUP,  SIGINT,  SIGQUIT,  SIGTERM, SIGUSR1,
					   SIGUSR2, SIGCONT, SIGWINCH, SIGCHLD };

static void supervise_on_signal(int number, siginfo_t *info, _unused_ void *context)
{
	int before = errno;

	if (number == SIGCHLD)
		(void)!write(supervise_wake[1], "", 1);		/* full: it will wake up anyway */
	else if (supervise_child && info->si_code != SI_KERNEL) /* a terminal tells the group */
		(void)kill((pid_t)supervise_child, number);
	if (number == SIGTERM || number == SIGINT || number == SIGQUIT)
		supervise_ending = number;
	errno = before;
}

static int supervise_signals(void)
{
	struct sigaction action = { .sa_sigaction = supervise_on_signal,
				    .sa_flags = SA_RESTART | SA_SIGINFO };
	struct sigaction before;
	sigset_t none;

	if (pipe2(supervise_wake, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	for (size_t i = 0; i < ARRAY_SIZE(supervise_handed_on); i++) {
		if (sigaction(supervise_handed_on[i], NULL, &before) < 0)
			return -errno;
		/* what is ignored here is to be ignored there, as by nohup */
		if ((before.sa_handler != SIG_IGN || supervise_handed_on[i] == SIGCHLD) &&
		    sigaction(supervise_handed_on[i], &action, NULL) < 0)
			return -errno;
	}
	/* as in the program: blocked by who started us, its end would go unnoticed */
	(void)sigemptyset(&none);
	return sigprocmask(SIG_SETMASK, &none, NULL) < 0 ? -errno : 0;
}

/* exec() would, but what comes before it, our handler would swallow. */
static void supervise_no_handlers(void)
{
	struct sigaction now;

	for (size_t i = 0; i < ARRAY_SIZE(supervise_handed_on); i++)
		if (sigaction(supervise_handed_on[i], NULL, &now) == 0 &&
		    now.sa_sigaction == supervise_on_signal)
			(void)signal(supervise_handed_on[i], SIG_DFL);
}

static int supervise_options(struct supervisor *s, const struct cli *c)
{
	const struct options *o = &c->options;

	s->c = c;
	if (o->keep_env)
		return cli_usage(c,
				 "--keep-env does not go with --key-file or --restart-on-rotate");
	if (o->watch_signal && !o->key_file)
		return cli_usage(c, "--watch-signal is about a --key-file");
	if (o->watch_signal && o->restart_on_rotate)
		return cli_usage(c, "--watch-signal does not go with --restart-on-rotate");
	if (o->watch_signal)
		s->signal = text_signal(o->watch_signal);
	if (o->watch_signal && s->signal == 0)
		return cli_usage(c, "--watch-signal: there is no signal \"%s\"", o->watch_signal);
	if (!o->key_file)
		return CLI_OK;
	_cleanup_(freep) char *here = o->key_file[0] == '/' ? NULL : getcwd(NULL, 0);
	if (o->key_file[0] != '/' && !here)
		return cli_fail(c, CLI_OS, "the current directory has no name: %s",
				strerror(errno));
	s->file.path = xasprintf("%s%s%s", here ? here : "", here ? "/" : "", o->key_file);
	return CLI_OK;
}

/* --- the key --- */

static enum keybroker_code supervise_acquire(struct supervisor *s, struct keybroker_error *e)
{
	struct keybroker_request request = { .profile = s->c->options.profile,
					     .bind = KEYBROKER_BIND_PROCESS,
					     .min_valid_ms = s->c->options.min_valid_ms };
	enum keybroker_code code = KEYBROKER_UNKNOWN_LEASE;
	struct keybroker_lease *l = NULL;

	if (s->lease[0]) {
		const struct keybroker_request again = { .lease = s->lease };

		code = keybroker_acquire(s->calls, &again, &l, e);
	}
	if (code == KEYBROKER_UNKNOWN_LEASE) /* revoked, or of a state that is gone */
		code = keybroker_acquire(s->calls, &request, &l, e);
	if (code != KEYBROKER_OK)
		return code;
	keybroker_lease_free(s->key);
	s->key = l;
	(void)snprintf(s->lease, sizeof(s->lease), "%s", keybroker_lease_id(l));
	return KEYBROKER_OK;
}

static bool supervise_has_new_key(const struct supervisor *s)
{
	return s->key && strcmp(s->hash, keybroker_lease_key_hash(s->key)) != 0;
}

static void supervise_note_key(struct supervisor *s)
{
	(void)snprintf(s->hash, sizeof(s->hash), "%s", keybroker_lease_key_hash(s->key));
	s->generation = keybroker_lease_generation(s->key);
}

/* Best effort: without it the older key stays for its grace. */
static void supervise_ack(struct supervisor *s)
{
	const struct call_param params[] = { CALL_PARAM_TEXT("lease", s->lease),
					     CALL_PARAM_INT("generation", s->generation) };
	const struct call call = { "ack", params, ARRAY_SIZE(params), false, false };
	_cleanup_(message_freep) struct message *m = NULL;

	if (s->generation > 0)
		(void)keybroker_call(s->calls, &call, &m, NULL);
}

/* Says what fails once, and not again until it has gone well. */
static void supervise_trouble(struct supervisor *s, const char *what)
{
	if (!s->troubled)
		cli_warning("%s; %s goes on with the key that it has, and this is tried again",
			    what, s->c->operands[0]);
	s->troubled = true;
	s->retry_at_ms = wire_now_ms() + s->pause_ms;
	s->pause_ms = MIN_OF(s->pause_ms * 2, SUPERVISE_MOST_PAUSE_MS);
}

static int supervise_write_file(struct supervisor *s)
{
	return s->file.path ? key_file_write(&s->file, keybroker_lease_api_key(s->key)) : 0;
}

/* --- the program --- */

/* In the child: never returns. */
static void supervise_become(const struct supervisor *s, pid_t parent)
{
	sigset_t none;
	int r;

	(void)sigemptyset(&none);
	(void)prctl(PR_SET_PDEATHSIG, SIGTERM); /* its key goes with us */
	if (getppid() != parent)
		_exit(CLI_SOFTWARE);
	if (!s->file.path && setenv("OPENAI_API_KEY", keybroker_lease_api_key(s->key), 1) < 0)
		_exit(CLI_OS);
	if (s->file.path && setenv("OPENAI_API_KEY_FILE", s->file.path, 1) < 0)
		_exit(CLI_OS);
	supervise_no_handlers();
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	(void)execvp(s->c->operands[0], s->c->operands);
	r = errno;
	_exit(cli_fail(s->c, r == ENOENT ? CLI_NOT_FOUND : CLI_CANNOT_RUN, "%s cannot be run: %s",
		       s->c->operands[0], strerror(r)));
}

/* Starts it with s->key, which is wiped here; or does not, if it has been told to end. */
static int supervise_start(struct supervisor *s)
{
	sigset_t all, before;
	pid_t parent = getpid(), child = 0;

	(void)sigfillset(&all);
	(void)sigprocmask(SIG_SETMASK, &all, &before); /* its pid is known before a signal comes */
	if (!supervise_ending) {
		child = fork();
		if (child == 0)
			supervise_become(s, parent);
	}
	supervise_child = child > 0 ? child : 0;
	(void)sigprocmask(SIG_SETMASK, &before, NULL);
	if (child < 0)
		return cli_fail(s->c, CLI_OS, "no process for %s: %s", s->c->operands[0],
				strerror(errno));
	keybroker_lease_free(TAKE(s->key));
	s->kill_at_ms = 0;
	return CLI_OK;
}

/* True: it has ended, and is reaped. */
static bool supervise_has_ended(int *ret_status)
{
	pid_t child = (pid_t)supervise_child;
	siginfo_t info = { 0 };

	if (waitid(P_PID, (id_t)child, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == 0)
		return false;
	supervise_child = 0; /* from here on the pid may be another's */
	return waitpid(child, ret_status, 0) == child;
}

/* As the program ended. */
static int supervise_exit_code(int status)
{
	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	(void)prctl(PR_SET_DUMPABLE, 0); /* one core is enough */
	(void)signal(WTERMSIG(status), SIG_DFL);
	(void)raise(WTERMSIG(status));
	return 128 + WTERMSIG(status); /* what a shell says of it */
}

/* --- following the lease --- */

/* s->key stays for the next start; there is none if somebody else has told it to end. */
static void supervise_restart(struct supervisor *s)
{
	bool ending = supervise_ending;

	cli_notice(s->c, "there is a new key: %s %s", s->c->operands[0],
		   ending ? "was told to end, and is not started again" : "is started again");
	if (ending || s->kill_at_ms)
		return;
	s->kill_at_ms = wire_now_ms() + SUPERVISE_STOP_MS;
	(void)kill((pid_t)supervise_child, SIGTERM);
}

static void supervise_hand_on(struct supervisor *s)
{
	int r = supervise_write_file(s);
	char text[512];

	if (r < 0) {
		(void)snprintf(text, sizeof(text), "%s cannot be written: %s", s->file.path,
			       strerror(-r));
		supervise_trouble(s, text);
		return;
	}
	supervise_note_key(s);
	s->behind = false;
	s->troubled = false;
	s->pause_ms = SUPERVISE_PAUSE_MS;
	if (s->c->options.restart_on_rotate) {
		supervise_restart(s);
		return;
	}
	keybroker_lease_free(TAKE(s->key));
	if (s->signal)
		(void)kill((pid_t)supervise_child, s->signal);
}

static void supervise_follow(struct supervisor *s)
{
	struct keybroker_error e = { 0 };

	if (supervise_acquire(s, &e) != KEYBROKER_OK) {
		supervise_trouble(s, e.message);
		return;
	}
	if (supervise_has_new_key(s)) {
		supervise_hand_on(s);
		return;
	}
	if (s->kill_at_ms == 0)
		keybroker_lease_free(TAKE(s->key));
	s->behind = false;
	s->troubled = false;
	s->pause_ms = SUPERVISE_PAUSE_MS;
}

/* What came meanwhile is told after the reply, so nothing is missed. */
static void supervise_watch(struct supervisor *s)
{
	const struct call call = { .method = "watch" };
	_cleanup_(message_freep) struct message *m = NULL;
	struct keybroker_error e = { 0 };

	if (keybroker_call(s->watch, &call, &m, &e) != KEYBROKER_OK) {
		supervise_trouble(s, e.message);
		return;
	}
	s->watching = true;
	s->behind = true; /* the lease may have ended unseen */
}

static void supervise_listen(struct supervisor *s)
{
	for (;;) {
		_cleanup_(message_freep) struct message *m = NULL;
		enum keybroker_code code = keybroker_next(s->watch, 0, &m, NULL);

		if (code == KEYBROKER_TIMEOUT)
			return;
		s->behind = true;
		if (code == KEYBROKER_OK)
			continue;
		s->watching = false;
		return;
	}
}

static int supervise_wait_ms(const struct supervisor *s)
{
	int64_t until = INT64_MAX;

	if (!s->watching || s->behind)
		until = s->retry_at_ms;
	if (s->kill_at_ms)
		until = MIN_OF(until, s->kill_at_ms);
	return until == INT64_MAX ? -1 : (int)MAX_OF(until - wire_now_ms(), 0);
}

static void supervise_wait(struct supervisor *s)
{
	struct pollfd polled[] = { { .fd = supervise_wake[0], .events = POLLIN },
				   { .fd = s->watching ? keybroker_socket_fd(s->watch) : -1,
				     .events = POLLIN } };
	char drained[64];

	if (poll(polled, ARRAY_SIZE(polled), supervise_wait_ms(s)) <= 0)
		return;
	while (read(supervise_wake[0], drained, sizeof(drained)) > 0)
		;
	if (polled[1].revents)
		supervise_listen(s);
}

static void supervise_step(struct supervisor *s)
{
	int64_t now = wire_now_ms();

	if (s->kill_at_ms && now >= s->kill_at_ms) {
		(void)kill((pid_t)supervise_child, SIGKILL);
		s->kill_at_ms = INT64_MAX;
	}
	if (now < s->retry_at_ms)
		return;
	if (!s->watching)
		supervise_watch(s);
	if (s->watching && s->behind)
		supervise_follow(s);
}

/* CLI_OK once it has ended for good. */
static int supervise_loop(struct supervisor *s)
{
	int r;

	for (;;) {
		supervise_wait(s);
		if (!supervise_has_ended(&s->status)) {
			supervise_step(s);
			continue;
		}
		if (s->kill_at_ms == 0)
			return CLI_OK;
		r = supervise_start(s);
		if (r != CLI_OK || !supervise_child)
			return r;
		supervise_ack(s);
	}
}

/* --- from beginning to end --- */

static int supervise_open(struct supervisor *s)
{
	struct keybroker_options options = { .socket = keybroker_socket_path(s->calls),
					     .timeout_ms = SUPERVISE_CALL_MS };
	struct keybroker_error e;

	if (call_open(&s->watch, &options, false, NULL, &e) != KEYBROKER_OK)
		return cli_report(s->c, &e);
	options.socket = keybroker_socket_path(s->watch);
	keybroker_close(TAKE(s->calls)); /* it waits as long as the user said: not while CMD runs */
	return call_open(&s->calls, &options, false, NULL, &e) == KEYBROKER_OK
		       ? CLI_OK
		       : cli_report(s->c, &e);
}

static int supervise_first_key(struct supervisor *s)
{
	struct keybroker_error e;
	int r = cli_connect(s->c, false, &s->calls);

	if (r != CLI_OK)
		return r;
	patience_begin(s->c);
	enum keybroker_code code = supervise_acquire(s, &e);
	patience_end();
	r = code == KEYBROKER_OK ? exec_set_base(s->c, s->key) : cli_report(s->c, &e);
	if (r == CLI_OK && env_scrub("OPENAI_API_KEY"))
		cli_notice(s->c, "OPENAI_API_KEY was set; it is not passed on to %s",
			   s->c->operands[0]);
	return r == CLI_OK ? supervise_open(s) : r;
}

static int supervise_run(struct supervisor *s)
{
	int r = supervise_first_key(s), w;

	if (r != CLI_OK)
		return r;
	w = supervise_signals();
	if (w < 0)
		return cli_fail(s->c, CLI_OS, "signals cannot be handed on: %s", strerror(-w));
	w = supervise_write_file(s);
	if (w < 0)
		return cli_fail(s->c, CLI_IO, "%s cannot be written: %s", s->file.path,
				strerror(-w));
	supervise_note_key(s);
	s->pause_ms = SUPERVISE_PAUSE_MS;
	r = supervise_start(s);
	if (r == CLI_OK && !supervise_child)
		s->status = supervise_ending; /* it never ran: what waitpid() says of that signal */
	else if (r == CLI_OK)
		r = supervise_loop(s);
	return r;
}

int supervise(struct cli *c)
{
	struct supervisor s = { .file = { .fd = -1 } };
	int r = supervise_options(&s, c);

	if (r == CLI_OK) {
		r = supervise_run(&s);
		key_file_remove(&s.file); /* its key goes with the lease */
	}
	keybroker_lease_free(s.key);
	keybroker_close(s.calls);
	keybroker_close(s.watch);
	key_file_deinit(&s.file);
	return r == CLI_OK ? supervise_exit_code(s.status) : r;
}
