/* The exit codes of this program: those of sysexits.h, and one of its own. */
#pragma once

enum { EXIT_BROKEN = 1 }; /* the audit is not as it was written */
