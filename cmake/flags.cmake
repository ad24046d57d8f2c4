# Warnings, hardening and sanitizers, carried by one interface library that every target links.
add_library(kb_flags INTERFACE)
target_compile_definitions(kb_flags INTERFACE _GNU_SOURCE KEYBROKER_VERSION="${PROJECT_VERSION}")
target_compile_options(kb_flags INTERFACE
	-Wall -Wextra -Wformat=2 -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wundef -Wvla
	-Wwrite-strings -Wcast-qual -Wconversion -Wno-sign-conversion -Wdate-time
	$<$<C_COMPILER_ID:GNU>:-Wjump-misses-init>
	-fno-strict-aliasing -fstack-protector-strong)
target_link_options(kb_flags INTERFACE -Wl,--as-needed -Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack)
if(KEYBROKER_WERROR)
	target_compile_options(kb_flags INTERFACE -Werror)
endif()
if(KEYBROKER_TESTING)
	target_compile_definitions(kb_flags INTERFACE KEYBROKER_TESTING)
endif()
if(CMAKE_BUILD_TYPE MATCHES "Rel" AND NOT KEYBROKER_SANITIZE)
	target_compile_options(kb_flags INTERFACE -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3)
endif()
if(KEYBROKER_SANITIZE)
	target_compile_options(kb_flags INTERFACE -fsanitize=${KEYBROKER_SANITIZE} -fno-omit-frame-pointer
		-fno-sanitize-recover=all)
	target_link_options(kb_flags INTERFACE -fsanitize=${KEYBROKER_SANITIZE})
endif()
include(CheckPIESupported)
check_pie_supported()
