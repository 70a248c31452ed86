#include "storage/fault_reader.h"

#include "base/bytes.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <optional>
#include <thread>
#include <unordered_map>

namespace hypura::storage {
namespace {

// What lies past the end of a short read: a caller that trusts those bytes shall fail its comparison.
constexpr std::byte kPoison{0xA5};

// The file range of the read that failed. Reads stop short at `stop`.
struct BrokenRange {
    int fd = -1;
    uint64_t begin = 0;
    uint64_t stop = 0;
    uint64_t end = 0;

    bool overlaps(const RawRead& read) const {
        return read.fd == fd && read.offset < end && begin < read.offset + read.bytes;
    }
};

// About half, and whole sectors where possible, as a device would do it.
uint64_t half_of(uint64_t bytes) {
    const uint64_t half = bytes / 2;
    return half >= 512 ? align_down(half, 512) : half;
}

BrokenRange range_of(const RawRead& read) {
    return {read.fd, read.offset, read.offset + half_of(read.bytes), read.offset + read.bytes};
}

class FaultReader final : public RawReader {
public:
    FaultReader(std::unique_ptr<RawReader> inner, const FaultPlan& plan) : inner_(std::move(inner)), plan_(plan) {}

    Status submit(std::span<const RawRead> reads) override;
    Status collect(std::vector<RawCompletion>& out, bool block) override;
    size_t in_flight() const override { return inner_->in_flight() + failed_.size(); }
    std::string_view name() const override { return inner_->name(); }

private:
    struct Cut {
        uint64_t keep = 0;
        std::byte* destination = nullptr;
    };

    bool must_fail(const RawRead& read);
    std::optional<int64_t> result_without_reading(const RawRead& read) const;
    void cut_short(RawCompletion& completion);
    void delay(size_t completions) const;

    std::unique_ptr<RawReader> inner_;
    FaultPlan plan_;
    uint64_t reads_seen_ = 0;
    std::optional<BrokenRange> broken_;
    std::vector<RawCompletion> failed_;       // not given to the inner reader
    std::unordered_map<uint64_t, Cut> cuts_;  // by tag: reads of the inner reader whose result will be shortened
};

Status FaultReader::submit(std::span<const RawRead> reads) {
    std::vector<RawRead> passed;
    for (const RawRead& read : reads) {
        const bool fails = must_fail(read);
        const auto result = fails ? result_without_reading(read) : std::nullopt;
        if (result) {
            failed_.push_back({read.tag, *result});
            continue;
        }
        if (fails) cuts_[read.tag] = {broken_->stop - read.offset, read.destination};
        passed.push_back(read);
    }
    return inner_->submit(passed);
}

bool FaultReader::must_fail(const RawRead& read) {
    if (plan_.kind == FaultKind::kSlow) return ++reads_seen_, false;
    if (++reads_seen_ == plan_.nth) {
        broken_ = range_of(read);
        return true;
    }
    return plan_.permanent && broken_ && broken_->overlaps(read);
}

// Empty for the read that does reach the kernel: a short one with something before the stop.
std::optional<int64_t> FaultReader::result_without_reading(const RawRead& read) const {
    switch (plan_.kind) {
        case FaultKind::kIoError:
            return -EIO;
        case FaultKind::kInterrupted:
            return -EINTR;
        case FaultKind::kEndOfFile:
            return 0;
        case FaultKind::kShortRead:
        case FaultKind::kSlow:
            break;
    }
    if (read.offset >= broken_->stop) return 0;
    return std::nullopt;
}

Status FaultReader::collect(std::vector<RawCompletion>& out, bool block) {
    const bool have_failed = !failed_.empty();
    out.insert(out.end(), failed_.begin(), failed_.end());
    failed_.clear();

    const size_t first_inner = out.size();
    HYPURA_TRY(inner_->collect(out, block && !have_failed));
    for (RawCompletion& completion : std::span(out).subspan(first_inner)) cut_short(completion);
    delay(out.size() - first_inner);
    return {};
}

void FaultReader::delay(size_t completions) const {
    if (plan_.kind != FaultKind::kSlow || reads_seen_ < plan_.nth) return;
    std::this_thread::sleep_for(std::chrono::microseconds(plan_.delay_us * static_cast<int64_t>(completions)));
}

// The whole range was read, since half of it might break the device's alignment; only a true prefix is reported.
void FaultReader::cut_short(RawCompletion& completion) {
    const auto found = cuts_.find(completion.tag);
    if (found == cuts_.end()) return;
    const Cut cut = found->second;
    cuts_.erase(found);
    const auto keep = static_cast<int64_t>(cut.keep);
    if (completion.result <= keep) return;
    std::fill(cut.destination + keep, cut.destination + completion.result, kPoison);
    completion.result = keep;
}

std::optional<FaultKind> parse_kind(std::string_view text) {
    if (text == "eio") return FaultKind::kIoError;
    if (text == "short") return FaultKind::kShortRead;
    if (text == "eintr") return FaultKind::kInterrupted;
    if (text == "eof") return FaultKind::kEndOfFile;
    if (text == "slow") return FaultKind::kSlow;
    return std::nullopt;
}

std::optional<uint64_t> parse_count(std::string_view text) {
    uint64_t value = 0;
    const char* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, value);
    if (error != std::errc{} || stop != end) return std::nullopt;
    return value;
}

// Splits off what comes before the next ':'.
std::string_view take_field(std::string_view& rest) {
    const size_t colon = std::min(rest.find(':'), rest.size());
    const std::string_view field = rest.substr(0, colon);
    rest.remove_prefix(std::min(colon + 1, rest.size()));
    return field;
}

}  // namespace

Result<FaultPlan> parse_fault_plan(std::string_view text) {
    std::string_view rest = text;
    const auto nth = parse_count(take_field(rest));
    const auto kind = parse_kind(take_field(rest));
    const auto delay_ms = kind == FaultKind::kSlow ? parse_count(rest) : std::nullopt;
    if (nth && delay_ms && *delay_ms < 3600'000)
        return FaultPlan{.nth = *nth, .kind = *kind, .delay_us = static_cast<int64_t>(*delay_ms) * 1000};
    const bool slow_without_delay = kind == FaultKind::kSlow;
    if (!nth || !kind || slow_without_delay || (!rest.empty() && rest != "permanent") || text.ends_with(':')) {
        return fail(ErrorCode::kInvalidArgument,
                    "'{}' is not a fault: expected N:eio|short|eintr|eof[:permanent] or N:slow:MILLISECONDS", text);
    }
    return FaultPlan{.nth = *nth, .kind = *kind, .permanent = !rest.empty()};
}

std::unique_ptr<RawReader> make_fault_reader(std::unique_ptr<RawReader> inner, const FaultPlan& plan) {
    return std::make_unique<FaultReader>(std::move(inner), plan);
}

}  // namespace hypura::storage
