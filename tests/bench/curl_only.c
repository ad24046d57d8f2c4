/* The control of the memory figures: what a process weighs that does nothing but start libcurl. */
#include <curl/curl.h>
#include <stdio.h>
#include <unistd.h>

int main(void)
{
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK || !curl_multi_init())
		return 1;
	(void)puts("READY");
	(void)fflush(stdout);
	return pause();
}
