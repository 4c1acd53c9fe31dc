# Fills the manual page's template: the version, and what the launcher knows of options and
# variables. Run with -D LAUNCHER, TEMPLATE, OUTPUT and VERSION.
foreach(part options variables)
  execute_process(COMMAND ${LAUNCHER} --man ${part} OUTPUT_VARIABLE ${part} COMMAND_ERROR_IS_FATAL ANY)
  string(STRIP "${${part}}" ${part})
endforeach()
configure_file(${TEMPLATE} ${OUTPUT} @ONLY)
