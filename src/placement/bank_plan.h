// How the device memory that is left for routed experts is shared out among the groups (layers) that have them.
//
// A group whose experts are all on the device costs a token nothing beyond its arithmetic. Any other costs a cut of
// the graph, uploads of what its device slots lack, and reads of what the RAM slots beneath lack too. Shared out
// evenly, every group keeps its most used experts, and the fewest are uploaded and read; with some groups whole there
// are fewer cuts, but more is missed in the others. Which is less, depends on the machine: the seconds that each split
// takes a token are worked out, and the least are taken.
#pragma once

#include "placement/machine.h"
#include "placement/miss_curve.h"

#include <cstdint>
#include <span>
#include <vector>

namespace hypura::placement {

// Of a token's experts in a group's device slots: with fewer slots they are gone again two tokens later, and RAM slots
// had better keep them, too.
constexpr uint32_t kTokensThatStay = 2;

struct BankRequest {
    uint64_t expert_bytes = 0;  // one expert, all its matrices
    uint64_t matrix_bytes = 0;  // the largest of them
    uint32_t experts = 0;
    uint32_t least_slots = 0;  // one token's experts
};

struct BankRoom {
    uint64_t device_bytes = 0;
    uint64_t most_bank_bytes = UINT64_MAX;  // that the slots of one tensor may take
    uint64_t ram_bytes = UINT64_MAX;        // of RAM slots beneath; UINT64_MAX: for all
};

struct BankRates {
    double upload_bytes_per_second = 16e9;  // to the device: PCIe 4.0 with eight lanes
    bool uploads_ahead = false;             // what is likely to be needed, while the device computes
    double read_bytes_per_second = 2e9;     // from the disk
    double host_bytes_per_second = 20e9;    // experts of layers without device slots, by the processor
    Routing routing;
};
// Of the first graphics card, of the disk and of the processor, as far as they were measured.
BankRates bank_rates(const Machine& machine, const DiskProfile& disk, const Routing& routing);

// What a token pays, beyond a device's arithmetic, for experts that have no device slot when they are needed.
struct BankForecast {
    uint32_t cuts = 0;
    double uploaded = 0;  // share of all expert demands
    double read = 0;      // likewise, from the disk
    double device_s = 0;  // cuts, uploads that are waited for, and layers that the processor computes
    double read_s = 0;    // the disk
};
BankForecast forecast_banks(std::span<const BankRequest> groups, std::span<const uint32_t> slots, const BankRoom& room,
                            const BankRates& rates);

// Slots of each group. All experts of every group where they fit. Where not every group can get `least_slots`, some get
// all of theirs and the others none, so that the processor multiplies what stays with the host: its products need RAM
// slots in one piece, which cannot be pinned, and uploads from other memory take longer than the products (8.4 GB on an
// H100, slots for one token's experts in 17 of 24 layers: 38 ms a token; in none of them 30).
std::vector<uint32_t> plan_banks(std::span<const BankRequest> groups, const BankRoom& room, const BankRates& rates);

// Likewise where experts cannot come and go: each group has all of its experts on the device, or none.
std::vector<uint32_t> plan_whole_banks(std::span<const BankRequest> groups, const BankRoom& room);

// What a device sets aside, of the room for experts, for batches that name more of a group's than it has slots.
struct BankStaging {
    uint64_t part_bytes = 0;   // twice this: whole parts of a group (all gate matrices, say), by turns; 0: none
    uint64_t piece_bytes = 0;  // where there is no room for those: single matrices pass through

    uint64_t total_bytes() const { return 2 * part_bytes + piece_bytes; }
};
// None where everything fits.
BankStaging plan_staging(std::span<const BankRequest> groups, uint64_t room_bytes);

struct StagedBanks {
    std::vector<uint32_t> slots;
    BankStaging staging;
};
// plan_banks() in what staging leaves of the room. Nothing is staged where no group's experts come and go.
StagedBanks plan_staged_banks(std::span<const BankRequest> groups, BankRoom room, const BankRates& rates);

// A pass of many tokens, which names nearly every expert: its arithmetic; cuts, one a part of a group and one behind
// its router; and uploads of all that has no slot, less what comes while whole parts are multiplied. Or reading what
// RAM lacks of it, if that takes longer.
double pass_seconds(std::span<const BankRequest> groups, const StagedBanks& banks, uint64_t ram_bytes,
                    const BankRates& rates, double arithmetic_s);

}  // namespace hypura::placement
