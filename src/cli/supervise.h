/* `exec` for programs that are to follow rotations: it stays as the program's parent. */
#pragma once

struct cli;

/* Runs the operands until they end, with the newest key in their environment or in the key file.
 * The exit code is the program's; what ended by a signal ends this process by it too. */
int supervise(struct cli *c);
