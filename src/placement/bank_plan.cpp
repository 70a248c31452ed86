#include "placement/bank_plan.h"

#include <algorithm>
#include <map>

namespace hypura::placement {
namespace {

// A cut of the graph on a device: ids come back, uploads are waited for, slot numbers go there, the rest is submitted.
// Measured on H100 and H200 by ggml's Vulkan backend: 140 to 300 us, busy hosts at the upper end (docs/devices.md).
constexpr double kCutS = 250e-6;

// A layer whose experts the processor multiplies, beside that: two more ways between both, and a team of threads that
// has to meet. Measured on an H100 with 16 threads: 1.23 ms a layer, 0.3 of it arithmetic.
constexpr double kHostLayerS = 900e-6;

// Uploads ahead, on the same machines. Of what a layer lacks so much was foreseen; and as long as about a cut takes,
// threads of the host move such a share of what the device's own queue would.
constexpr double kForeseen = 0.75;
constexpr double kAheadRate = 0.7;
constexpr double kRateBesidePasses = 0.5;  // likewise, all along a pass of many tokens

// Whole parts may take a sixth of the room for experts: a token uploads a few percent more for it, and a prompt of 4096
// tokens is 1.6 times as quick as in pieces (docs/devices.md).
constexpr uint64_t kRoomPerParts = 6;
constexpr uint64_t kRoomPerPieces = 16;
constexpr uint64_t kMostPieceBytes = uint64_t{256} << 20;

// Of one layer.
double upload_s(double bytes, const BankRates& rates) {
    const double ahead_bytes = kCutS * kAheadRate * rates.upload_bytes_per_second;
    const double waited_bytes = rates.uploads_ahead ? bytes - std::min(kForeseen * bytes, ahead_bytes) : bytes;
    return waited_bytes / rates.upload_bytes_per_second;
}

uint32_t most_slots(const BankRequest& group, uint64_t most_bank_bytes) {
    const uint64_t reachable = most_bank_bytes / std::max<uint64_t>(group.matrix_bytes, 1);
    return static_cast<uint32_t>(std::min<uint64_t>(group.experts, reachable));
}

uint64_t bytes_of_all(std::span<const BankRequest> groups) {
    uint64_t bytes = 0;
    for (const BankRequest& group : groups) bytes += group.expert_bytes * group.experts;
    return bytes;
}

double share_of(uint64_t part, uint64_t whole) {
    return part >= whole ? 1 : static_cast<double>(part) / static_cast<double>(whole);
}

// Groups are mostly alike: each curve is worked out once.
class MissCurves {
public:
    explicit MissCurves(const Routing& routing) : routing_(routing) {}
    const MissCurve& of(const BankRequest& group) {
        const auto found = known_.find({group.experts, group.least_slots});
        if (found != known_.end()) return found->second;
        return known_
            .emplace(std::pair(group.experts, group.least_slots),
                     MissCurve::expected(group.experts, group.least_slots, routing_))
            .first->second;
    }

private:
    Routing routing_;
    std::map<std::pair<uint32_t, uint32_t>, MissCurve> known_;
};

BankForecast forecast(std::span<const BankRequest> groups, std::span<const uint32_t> slots, const BankRoom& room,
                      const BankRates& rates, MissCurves& curves) {
    uint64_t elsewhere_bytes = 0;  // experts of groups that are not whole: RAM slots serve these
    double demands = 0;
    for (size_t g = 0; g < groups.size(); ++g) {
        if (slots[g] < groups[g].experts) elsewhere_bytes += groups[g].expert_bytes * groups[g].experts;
        demands += groups[g].least_slots;
    }
    demands = std::max(demands, 1.0);  // a file may not say how many experts a token uses
    const double in_ram = share_of(room.ram_bytes, elsewhere_bytes);
    BankForecast total;
    for (size_t g = 0; g < groups.size(); ++g) {
        const BankRequest& group = groups[g];
        if (slots[g] >= group.experts) continue;
        const double on_device = share_of(slots[g], group.experts);
        const double uploaded = slots[g] == 0 ? 0 : group.least_slots * curves.of(group).miss(on_device);
        const double held = in_ram + (slots[g] < kTokensThatStay * group.least_slots ? 0 : on_device);
        const double read = held >= 1 ? 0 : group.least_slots * curves.of(group).miss(held);
        const auto expert_bytes = static_cast<double>(group.expert_bytes);
        total.cuts += 1;
        total.uploaded += uploaded / demands;
        total.read += read / demands;
        total.device_s += slots[g] == 0 ? kHostLayerS + group.least_slots * expert_bytes / rates.host_bytes_per_second
                                        : kCutS + upload_s(uploaded * expert_bytes, rates);
        total.read_s += read * expert_bytes / rates.read_bytes_per_second;
    }
    return total;
}

// `whole` of the groups, evenly spread: while one computes, experts of the next that is not whole can come. The first
// rather than the last: that one computes a single token of a prompt, which needs few experts.
std::vector<bool> choose_whole(size_t groups, size_t whole) {
    const auto chosen_before = [&](size_t g) { return (g * whole + groups - 1) / groups; };
    std::vector<bool> chosen;
    chosen.reserve(groups);
    for (size_t g = 0; g < groups; ++g) chosen.push_back(chosen_before(g + 1) > chosen_before(g));
    return chosen;
}

uint64_t bytes_of_whole(std::span<const BankRequest> groups, const std::vector<bool>& is_whole) {
    uint64_t bytes = 0;
    for (size_t g = 0; g < groups.size(); ++g) bytes += is_whole[g] ? groups[g].expert_bytes * groups[g].experts : 0;
    return bytes;
}

// The whole groups get all of their experts, for which there is room, the others an even share of what is left.
std::vector<uint32_t> share_out(std::span<const BankRequest> groups, const std::vector<bool>& is_whole,
                                const BankRoom& room) {
    const uint64_t whole_bytes = bytes_of_whole(groups, is_whole);
    uint64_t left_bytes = room.device_bytes - whole_bytes;
    const double share = share_of(left_bytes, bytes_of_all(groups) - whole_bytes);
    std::vector<uint32_t> slots;
    for (size_t g = 0; g < groups.size(); ++g) {
        const BankRequest& group = groups[g];
        if (is_whole[g]) {
            slots.push_back(group.experts);
            continue;
        }
        const auto even = static_cast<uint32_t>(share * group.experts);
        const uint32_t wanted = std::min(most_slots(group, room.most_bank_bytes), std::max(even, group.least_slots));
        const bool fits = wanted >= group.least_slots && wanted * group.expert_bytes <= left_bytes;
        slots.push_back(fits ? wanted : 0);
        left_bytes -= slots.back() * group.expert_bytes;
    }
    for (size_t g = 0; g < groups.size(); ++g) {  // rounding leaves room for a few more
        const bool may_grow = slots[g] > 0 && slots[g] < most_slots(groups[g], room.most_bank_bytes);
        if (!may_grow || groups[g].expert_bytes > left_bytes) continue;
        ++slots[g];
        left_bytes -= groups[g].expert_bytes;
    }
    return slots;
}

bool can_be_whole(std::span<const BankRequest> groups, const std::vector<bool>& is_whole, const BankRoom& room) {
    for (size_t g = 0; g < groups.size(); ++g)
        if (is_whole[g] && most_slots(groups[g], room.most_bank_bytes) < groups[g].experts) return false;
    return bytes_of_whole(groups, is_whole) <= room.device_bytes;
}

bool come_and_go(std::span<const BankRequest> groups, std::span<const uint32_t> slots) {
    for (size_t g = 0; g < groups.size(); ++g)
        if (slots[g] > 0 && slots[g] < groups[g].experts) return true;
    return false;
}

size_t without_slots(std::span<const uint32_t> slots) { return static_cast<size_t>(std::ranges::count(slots, 0U)); }

}  // namespace

BankRates bank_rates(const Machine& machine, const DiskProfile& disk, const Routing& routing) {
    BankRates rates{.routing = routing};
    const auto card = std::ranges::find_if(machine.devices, [](const ComputeDevice& device) {
        return device.kind == "gpu" && device.upload_bytes_per_second > 0;
    });
    if (card != machine.devices.end()) {
        rates.upload_bytes_per_second = card->upload_bytes_per_second;
        rates.uploads_ahead = card->writes_directly;
    }
    if (!disk.points.empty())
        rates.read_bytes_per_second =
            std::ranges::max(disk.points, {}, &storage::DiskPoint::bytes_per_second).bytes_per_second;
    // The formats of about four bits, which most experts come in, are about as fast.
    if (const double rate = weight_rate(machine.devices.front(), "q4_K", {.routed = true}, 1); rate > 0)
        rates.host_bytes_per_second = rate;
    return rates;
}

BankForecast forecast_banks(std::span<const BankRequest> groups, std::span<const uint32_t> slots, const BankRoom& room,
                            const BankRates& rates) {
    MissCurves curves(rates.routing);
    return forecast(groups, slots, room, rates, curves);
}

// Whole groups are bought as long as none of the others is left without slots by that.
std::vector<uint32_t> plan_banks(std::span<const BankRequest> groups, const BankRoom& room, const BankRates& rates) {
    MissCurves curves(rates.routing);
    std::vector<uint32_t> best = share_out(groups, choose_whole(groups.size(), 0), room);
    if (without_slots(best) > 0) return plan_whole_banks(groups, room);
    const auto seconds_of = [&](std::span<const uint32_t> slots) {
        const BankForecast token = forecast(groups, slots, room, rates, curves);
        return token.device_s + token.read_s;
    };
    double least_s = seconds_of(best);
    for (size_t whole = 1; whole <= groups.size(); ++whole) {
        const std::vector<bool> is_whole = choose_whole(groups.size(), whole);
        if (!can_be_whole(groups, is_whole, room)) break;
        std::vector<uint32_t> slots = share_out(groups, is_whole, room);
        if (without_slots(slots) > without_slots(best)) break;
        const double seconds = seconds_of(slots);
        if (seconds >= least_s) continue;
        least_s = seconds;
        best = std::move(slots);
    }
    return best;
}

BankStaging plan_staging(std::span<const BankRequest> groups, uint64_t room_bytes) {
    if (bytes_of_all(groups) <= room_bytes) return {};
    uint64_t matrix_bytes = 0;
    uint64_t part_bytes = 0;
    for (const BankRequest& group : groups) {
        matrix_bytes = std::max(matrix_bytes, group.matrix_bytes);
        part_bytes = std::max(part_bytes, group.matrix_bytes * group.experts);
    }
    if (2 * part_bytes <= room_bytes / kRoomPerParts) return {.part_bytes = part_bytes};
    const uint64_t wanted_bytes = std::min({kMostPieceBytes, part_bytes, room_bytes / kRoomPerPieces});
    return {.piece_bytes = std::max(matrix_bytes, wanted_bytes)};
}

StagedBanks plan_staged_banks(std::span<const BankRequest> groups, BankRoom room, const BankRates& rates) {
    const BankStaging staging = plan_staging(groups, room.device_bytes);
    room.device_bytes -= std::min(room.device_bytes, staging.total_bytes());
    std::vector<uint32_t> slots = plan_banks(groups, room, rates);
    const bool stages = come_and_go(groups, slots);
    return {std::move(slots), stages ? staging : BankStaging{}};
}

double pass_seconds(std::span<const BankRequest> groups, const StagedBanks& banks, uint64_t ram_bytes,
                    const BankRates& rates, double arithmetic_s) {
    uint64_t absent_bytes = 0;
    double cuts = 0;
    for (size_t g = 0; g < groups.size(); ++g) {
        if (banks.slots[g] >= groups[g].experts) continue;
        absent_bytes += (groups[g].experts - banks.slots[g]) * groups[g].expert_bytes;
        cuts += 1 + static_cast<double>(groups[g].expert_bytes) / static_cast<double>(groups[g].matrix_bytes);
    }
    const auto all_bytes = static_cast<double>(absent_bytes);
    const bool comes_meanwhile = rates.uploads_ahead && banks.staging.part_bytes > 0;
    const double meanwhile_bytes =
        comes_meanwhile ? std::min(all_bytes, arithmetic_s * kRateBesidePasses * rates.upload_bytes_per_second) : 0;
    const uint64_t unread_bytes = absent_bytes - std::min(absent_bytes, ram_bytes);
    return std::max(arithmetic_s + cuts * kCutS + (all_bytes - meanwhile_bytes) / rates.upload_bytes_per_second,
                    static_cast<double>(unread_bytes) / rates.read_bytes_per_second);
}

std::vector<uint32_t> plan_whole_banks(std::span<const BankRequest> groups, const BankRoom& room) {
    uint64_t left_bytes = room.device_bytes;
    std::vector<uint32_t> slots;
    for (const BankRequest& group : groups) {
        const uint64_t bytes = group.expert_bytes * group.experts;
        const bool fits = bytes <= left_bytes && most_slots(group, room.most_bank_bytes) == group.experts;
        slots.push_back(fits ? group.experts : 0);
        left_bytes -= fits ? bytes : 0;
    }
    return slots;
}

}  // namespace hypura::placement
