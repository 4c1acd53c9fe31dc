/* Marks the definition of an interposed symbol; all others are hidden. See also exports.map. */
#ifndef FU_EXPORT_H
#define FU_EXPORT_H

#define FU_EXPORT __attribute__((visibility("default")))

#endif
