// The file format of demand traces: JSON lines, so that a person and any tool can read them.
//
//   line 1   {"hypura_trace": 3, "model": NAME, "class_slots": [SLOTS, …], "pages": [[LAYER, EXPERT, CLASS, BYTES], …]}
//            a page's number is its place in the list; EXPERT -1 is a dense weight; SLOTS are those of the run
//   then, in order,
//            {"pass": TOKENS}                      a pass begins
//            {"d": [PAGE, …], "f": "hpwm…"}        pages demanded together, and what each was: h in memory, p in memory
//                                                  thanks to a prefetch, w being read, m absent
//                                                  and, of a routing, "s": "…": how each expert of the layer stood, a
//                                                  character an expert: ASCII 48 and its standing
//                                                  (residency/standing.h)
//            {"a": PAGE}                           its read was started ahead of demand
//            {"w": PAGE}                           that was in vain: the page is in memory, and may leave from now on
//   last     {"counters": {"demands": …, "hits": …, "joined": …, "evictions": …, "prefetches": …, "prefetch_wasted":
//   …}}
//            the engine's own, to check a replay against
//
// Version 1 had no "w", version 2 no "s".
#pragma once

#include "base/status.h"
#include "residency/demand_trace.h"

#include <string>

namespace hypura::cli {

std::string trace_text(const residency::DemandTrace& trace);

// `name` is for messages. kInvalidArgument names the first line that is wrong.
Result<residency::DemandTrace> parse_trace(const std::string& text, const std::string& name);

}  // namespace hypura::cli
