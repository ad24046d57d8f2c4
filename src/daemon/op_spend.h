/* `spend`: what LiteLLM has counted for our keys and their teams, asked for at each call. */
#pragma once

struct daemon;

/* A clean stop: tells all who wait. */
void spend_stop(struct daemon *d);
