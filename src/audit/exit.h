/* The exit codes of this program: those of sysexits.h, and two of its own. */
#pragma once

enum {
	EXIT_BROKEN = 1,   /* the audit is not as it was written */
	EXIT_UNPROVEN = 2, /* it is whole, but a prune took the row of a head that was given */
};
