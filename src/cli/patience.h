/* One line on stderr when a call takes long, so that a wait does not look like a hang. */
#pragma once

struct cli;

/* From here on; at most one at a time. Nothing is said with --quiet or --json. */
void patience_begin(const struct cli *c);
/* Restores signal and timer; harmless without a beginning. */
void patience_end(void);
