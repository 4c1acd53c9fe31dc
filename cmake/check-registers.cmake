# Fails if code that a patched call site may reach uses vector or x87 registers, or calls a
# function of libc that is not known to leave them alone. Run with -D ARCHIVES=a;b and -P.
#
# Known: clock_gettime ends in the vDSO. The pthread ones are only called with the registers kept
# aside (engine/thread.c); strlen only by the parser of the environment, at the start.
cmake_minimum_required(VERSION 3.25)
set(known clock_gettime pthread_attr_destroy pthread_attr_init pthread_attr_setdetachstate
  pthread_attr_setstacksize pthread_create pthread_key_create pthread_setspecific strlen
  _GLOBAL_OFFSET_TABLE_)
foreach(archive IN LISTS ARCHIVES)
  execute_process(COMMAND objdump -d --no-show-raw-insn ${archive} OUTPUT_VARIABLE code COMMAND_ERROR_IS_FATAL ANY)
  if(NOT code MATCHES "syscall")
    message(FATAL_ERROR "${archive}: no code found")
  endif()
  string(REGEX MATCH "[^\n]*%([xyz]mm|mm[0-7]|st)[^\n]*" use "${code}")
  if(use)
    message(SEND_ERROR "${archive} uses vector or x87 registers: ${use}")
  endif()
  execute_process(COMMAND nm -u ${archive} OUTPUT_VARIABLE symbols ERROR_QUIET COMMAND_ERROR_IS_FATAL ANY)
  string(REGEX MATCHALL "[Uw] [^\n]+" undefined "${symbols}")
  foreach(entry IN LISTS undefined)
    string(REGEX REPLACE "^. " "" name "${entry}")
    string(REGEX REPLACE "@.*" "" name "${name}")
    if(NOT name MATCHES "^fu_" AND NOT name IN_LIST known)
      message(SEND_ERROR "${archive} calls ${name}")
    endif()
  endforeach()
endforeach()
