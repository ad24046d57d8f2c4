/* A new leader takes up what the store says: keys, leases, and what was under way when the one
 * before it ended. */
#pragma once

struct daemon;

/* Reads all; starts nothing upstream yet. Negative: the store cannot be read. */
int recover(struct daemon *d);
/* Drives every key on. */
void recover_go(struct daemon *d);
