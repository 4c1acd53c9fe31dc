/*
 * Included before every file of the engine: functions that glibc 2.34 gave a new
 * version are bound to the one that every older glibc has as well. What used to
 * live in libpthread is weak, so that a program without it still starts.
 */
#ifndef FU_GLIBC_COMPAT_H
#define FU_GLIBC_COMPAT_H

#include <pthread.h>

__asm__(".symver pthread_attr_setstacksize, pthread_attr_setstacksize@GLIBC_2.2.5");
#pragma weak pthread_attr_setstacksize
__asm__(".symver pthread_key_create, pthread_key_create@GLIBC_2.2.5");
#pragma weak pthread_key_create
__asm__(".symver pthread_setspecific, pthread_setspecific@GLIBC_2.2.5");
#pragma weak pthread_setspecific

#endif
