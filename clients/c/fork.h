/* What a fork does to handles: the child's are marked, so that they begin anew at their next use.
 */
#pragma once

struct keybroker;

void fork_note(struct keybroker *k);
void fork_forget(struct keybroker *k);
