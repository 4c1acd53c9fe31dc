# The warnings that every file of the project compiles clean under, with gcc and with clang.
set(FU_WARNINGS -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Werror)
