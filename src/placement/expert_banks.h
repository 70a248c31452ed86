// A model's routed experts in the room that device_plan.h leaves on the cards.
#pragma once

#include "placement/bank_plan.h"
#include "placement/model_demand.h"

#include <cstdint>
#include <vector>

namespace hypura::placement {

struct ExpertBanks {
    std::vector<BankRequest> groups;  // the layers that have experts
    StagedBanks banks;                // slots of each, on the cards
    BankForecast token;               // what a token pays for those without one

    double token_seconds() const;  // for the others; infinite where all of a layer's stay with the processor
    uint64_t slot_bytes() const;
};

ExpertBanks plan_expert_banks(const ModelDemand& demand, const BankRoom& room, const BankRates& rates);

}  // namespace hypura::placement
