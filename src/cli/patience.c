/*
 * SIGALRM writes the line, since the client library blocks and shall not know of terminals. The
 * signal and its action are as before once the wait is over: exec hands them on.
 */
#include "cli/patience.h"

#include <signal.h>
#include <stdbool.h>
#include <unistd.h>

#include "cli/cli.h"

enum { PATIENCE_S = 3 };

static const char patience_text[] =
	"keybroker: waiting for the broker, which may be waiting for LiteLLM (--timeout limits it)\n";

static struct sigaction patience_before;
static bool patience_on;

/* One write, which a signal handler may do. */
static void patience_say(_unused_ int number)
{
	(void)!write(STDERR_FILENO, patience_text, sizeof(patience_text) - 1); /* a notice */
}

void patience_begin(const struct cli *c)
{
	const struct sigaction action = { .sa_handler = patience_say, .sa_flags = SA_RESTART };

	if (c->options.quiet || c->options.json)
		return;
	patience_on = sigaction(SIGALRM, &action, &patience_before) == 0;
	if (patience_on)
		(void)alarm(PATIENCE_S);
}

void patience_end(void)
{
	if (!patience_on)
		return;
	(void)alarm(0);
	(void)sigaction(SIGALRM, &patience_before, NULL); /* it could be set before */
	patience_on = false;
}
