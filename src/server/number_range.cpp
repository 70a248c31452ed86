#include "server/number_range.h"

#include "server/explore.h"

#include <algorithm>
#include <charconv>
#include <tuple>

namespace hypura::server {
namespace {

constexpr size_t kMostDigits = 15;
constexpr size_t kMostFractionDigits = 6;
constexpr size_t kMostBoundDigits = 40;
constexpr uint64_t kMostStep = 20000;

// How the digits so far stand to a bound's: -1, 0, 1. `count`: how many digits of the whole part were read.
int compared(int so_far, const std::string& bound, size_t index, int digit) {
    if (so_far != 0) return so_far;
    const int other = index < bound.size() ? bound[index] - '0' : 0;
    return digit < other ? -1 : digit > other ? 1 : 0;
}

// Bounds of a number without its sign.
struct Bounds {
    std::optional<Decimal> least, most;
    bool least_excluded = false, most_excluded = false;
};

enum class Phase : uint8_t { kStart, kSign, kZero, kWhole, kPoint, kFraction };

struct Place {
    Phase phase = Phase::kStart;
    bool negative = false;
    uint8_t whole_digits = 0, fraction_digits = 0;
    int8_t to_least = 0, to_most = 0;
    uint64_t residue = 0;
    auto operator<=>(const Place&) const = default;
};

class NumberLanguage {
public:
    explicit NumberLanguage(const NumberRange& range);
    using Edges = std::vector<std::pair<CharRange, Place>>;
    Edges edges_of(const Place& place) const;
    bool accepts(const Place& place) const;

private:
    const std::optional<Bounds>& bounds(const Place& place) const { return place.negative ? below_ : above_; }
    Place with_whole_digit(Place place, int digit) const;
    Place with_fraction_digit(Place place, int digit) const;
    Place with_point(Place place) const;
    int against(const Place& place, const std::optional<Decimal>& bound, int so_far) const;
    uint64_t next_residue(uint64_t residue, int digit) const {
        return (residue * 10 + static_cast<uint64_t>(digit)) % step_;
    }

    std::optional<Bounds> above_, below_;  // numbers without a sign, and with one
    uint64_t step_ = 1;                    // in units of the last digit of the step
    size_t step_fraction_ = 0;
    size_t most_whole_ = kMostDigits, most_fraction_ = 0, most_digits_ = kMostDigits;
};

// -0 is never written: numbers with a sign are more than zero away from it.
NumberLanguage::NumberLanguage(const NumberRange& range) {
    const auto& [least, most, least_excluded, most_excluded, step, integer] = range;
    if (!most || !most->negative) {
        above_.emplace(Bounds{std::nullopt, most, false, most_excluded});
        if (least && !least->negative) above_->least = least, above_->least_excluded = least_excluded;
    }
    if (!least || least->negative) {
        below_.emplace(Bounds{Decimal{}, least, true, least_excluded});
        if (most && most->negative) below_->least = most, below_->least_excluded = most_excluded;
    }
    size_t fraction = kMostFractionDigits;
    for (const auto& bound : {least, most}) {
        if (!bound) continue;
        most_whole_ = std::max(most_whole_, bound->whole.size());
        most_digits_ = std::max(most_digits_, bound->whole.size() + bound->fraction.size());
        fraction = std::max(fraction, bound->fraction.size());
    }
    if (step) {
        const std::string digits = step->whole + step->fraction;
        std::from_chars(digits.data(), digits.data() + digits.size(), step_);
        step_fraction_ = step->fraction.size();
        fraction = step_fraction_;
        // Places are counted for each residue: few digits for a coarse step keep the automaton small.
        if (step_ > 100)
            most_whole_ = std::min(most_whole_, std::max<size_t>(step_ > 2000 ? 6 : 9, most_digits_ - kMostDigits));
    }
    most_fraction_ = integer ? 0 : fraction;
}

Place NumberLanguage::with_whole_digit(Place place, int digit) const {
    const Bounds& bound = *bounds(place);
    const size_t index = place.whole_digits;
    if (bound.least)
        place.to_least = static_cast<int8_t>(index < bound.least->whole.size()
                                                 ? compared(place.to_least, bound.least->whole, index, digit)
                                                 : place.to_least);
    if (bound.most)
        place.to_most = static_cast<int8_t>(index < bound.most->whole.size()
                                                ? compared(place.to_most, bound.most->whole, index, digit)
                                                : place.to_most);
    place.residue = next_residue(place.residue, digit);
    ++place.whole_digits;
    return place;
}

// The whole part is complete: its length may settle what its digits did not.
int NumberLanguage::against(const Place& place, const std::optional<Decimal>& bound, int so_far) const {
    if (!bound || place.phase == Phase::kFraction || place.phase == Phase::kPoint) return so_far;
    const size_t digits = place.phase == Phase::kZero ? 0 : place.whole_digits;
    if (digits != bound->whole.size()) return digits < bound->whole.size() ? -1 : 1;
    return so_far;
}

Place NumberLanguage::with_point(Place place) const {
    place.to_least = static_cast<int8_t>(against(place, bounds(place)->least, place.to_least));
    place.to_most = static_cast<int8_t>(against(place, bounds(place)->most, place.to_most));
    place.phase = Phase::kPoint;
    return place;
}

Place NumberLanguage::with_fraction_digit(Place place, int digit) const {
    const Bounds& bound = *bounds(place);
    if (bound.least)
        place.to_least =
            static_cast<int8_t>(compared(place.to_least, bound.least->fraction, place.fraction_digits, digit));
    if (bound.most)
        place.to_most =
            static_cast<int8_t>(compared(place.to_most, bound.most->fraction, place.fraction_digits, digit));
    place.residue = next_residue(place.residue, digit);
    ++place.fraction_digits;
    place.phase = Phase::kFraction;
    return place;
}

NumberLanguage::Edges NumberLanguage::edges_of(const Place& place) const {
    Edges edges;
    const auto add = [&edges](char c, Place next) {
        edges.push_back({{static_cast<char32_t>(c), static_cast<char32_t>(c)}, next});
    };
    const bool first = place.phase == Phase::kStart || place.phase == Phase::kSign;
    if (place.phase == Phase::kStart && below_) {
        Place next = place;
        next.phase = Phase::kSign;
        next.negative = true;
        add('-', next);
    }
    if (first && !bounds(place)) return edges;
    const bool whole = place.phase == Phase::kZero || place.phase == Phase::kWhole;
    if (whole && place.whole_digits < most_digits_ && most_fraction_ > 0) add('.', with_point(place));
    if (first || (place.phase == Phase::kWhole && place.whole_digits < most_whole_)) {
        Place zero = place;
        zero.phase = Phase::kZero;
        if (first) add('0', zero);
        for (int digit = first ? 1 : 0; digit <= 9; ++digit) {
            Place next = with_whole_digit(place, digit);
            next.phase = Phase::kWhole;
            add(static_cast<char>('0' + digit), next);
        }
    }
    const bool behind = place.phase == Phase::kPoint || place.phase == Phase::kFraction;
    const size_t used = size_t{place.whole_digits} + place.fraction_digits;
    if (behind && place.fraction_digits < most_fraction_ && used < most_digits_)
        for (int digit = 0; digit <= 9; ++digit) add(static_cast<char>('0' + digit), with_fraction_digit(place, digit));
    return edges;
}

bool NumberLanguage::accepts(const Place& place) const {
    if (place.phase == Phase::kStart || place.phase == Phase::kSign || place.phase == Phase::kPoint) return false;
    const Bounds& bound = *bounds(place);
    uint64_t residue = place.residue;
    for (size_t i = place.fraction_digits; i < step_fraction_; ++i) residue = next_residue(residue, 0);
    if (residue != 0) return false;
    if (bound.least) {
        const int order = against(place, bound.least, place.to_least);
        const bool short_of = order == 0 && place.fraction_digits < bound.least->fraction.size();
        if (order < 0 || short_of || (order == 0 && bound.least_excluded)) return false;
    }
    if (!bound.most) return true;
    const int order = against(place, bound.most, place.to_most);
    const bool short_of = order == 0 && place.fraction_digits < bound.most->fraction.size();
    return order < 0 || short_of || (order == 0 && !bound.most_excluded);
}

}  // namespace

std::optional<Decimal> decimal_of(std::string_view text) {
    Decimal number;
    number.negative = text.starts_with('-');
    text.remove_prefix(number.negative ? 1 : 0);
    const size_t exponent_at = std::min(text.find_first_of("eE"), text.size());
    int exponent = 0;
    if (exponent_at < text.size()) {
        std::string_view digits = text.substr(exponent_at + 1);
        digits.remove_prefix(digits.starts_with('+') ? 1 : 0);
        std::from_chars(digits.data(), digits.data() + digits.size(), exponent);
    }
    const std::string_view mantissa = text.substr(0, exponent_at);
    const size_t point = std::min(mantissa.find('.'), mantissa.size());
    std::string digits(mantissa.substr(0, point));
    if (point < mantissa.size()) digits += mantissa.substr(point + 1);
    int64_t whole_digits = static_cast<int64_t>(point) + exponent;  // of `digits`
    if (whole_digits < 0 || whole_digits > static_cast<int64_t>(digits.size())) {
        const auto missing =
            static_cast<size_t>(whole_digits < 0 ? -whole_digits : whole_digits - static_cast<int64_t>(digits.size()));
        if (missing > kMostBoundDigits) return std::nullopt;
        whole_digits < 0 ? digits.insert(0, missing, '0') : digits.append(missing, '0');
        whole_digits = std::max<int64_t>(whole_digits, 0);
    }
    number.whole = digits.substr(0, static_cast<size_t>(whole_digits));
    number.fraction = digits.substr(static_cast<size_t>(whole_digits));
    number.whole.erase(0, std::min(number.whole.find_first_not_of('0'), number.whole.size()));
    number.fraction.erase(number.fraction.find_last_not_of('0') + 1);
    if (number.whole.size() + number.fraction.size() > kMostBoundDigits) return std::nullopt;
    if (number.is_zero()) number.negative = false;
    return number;
}

ApiResult<TextAutomaton> numbers_within(const NumberRange& range) {
    if (range.step) {
        const std::string digits = range.step->whole + range.step->fraction;
        uint64_t units = 0;
        const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), units);
        if (range.step->negative || units == 0) return refuse(400, "JSON schema: multipleOf must be more than 0");
        if (error != std::errc() || units > kMostStep || range.step->fraction.size() > kMostFractionDigits)
            return refuse(400, "JSON schema: multipleOf has too many digits for a grammar");
    }
    const NumberLanguage language(range);
    HYPURA_ASSIGN(TextAutomaton automaton, explore(
                                               Place{}, [&](const Place& place) { return language.edges_of(place); },
                                               [&](const Place& place) { return language.accepts(place); }));
    if (automaton.states.empty()) return refuse(400, "JSON schema: no number lies within the bounds");
    return automaton;
}

}  // namespace hypura::server
