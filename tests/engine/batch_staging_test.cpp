// Whole parts beside a layer's device slots, on the one device that every machine has: the processor.
#include "engine/batch_staging.h"

#include "engine/llama_library.h"
#include "residency/cache_fixture.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace hypura::engine {
namespace {

using testing::ElementsAre;

constexpr uint32_t kExperts = 6, kLayers = 2, kParts = 3;
constexpr int64_t kColumns = 2048;  // of one row
constexpr uint64_t kMatrixBytes = kColumns * sizeof(float);
constexpr uint64_t kSlack = storage::BlockReader::kSlackBytes;
constexpr uint64_t kSlotBytes = align_up(kParts * kMatrixBytes + (kParts + 1) * kSlack, 4096);

// Two layers whose slots are on the same device, above RAM slots and a file. Every element of a matrix is its number in
// the file.
class BatchStagingTest : public testing::Test {
protected:
    void open(uint32_t bank_slots, uint32_t ram_slots = kLayers * kExperts) {
        start_llama();
        ggml_backend_dev_t const processor = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
        stream_ = DeviceStream::create(processor, 0).value();
        make_cache(ram_slots);
        for (std::unique_ptr<DeviceBank>& bank : banks_) bank = make_bank(bank_slots);
        staging_ = BatchStaging::create(*stream_, kExperts * kMatrixBytes, 2).value();
    }
    void make_cache(uint32_t ram_slots) {
        std::string content;
        std::vector<residency::PageSpec> pages;
        for (uint32_t page = 0; page < kLayers * kExperts; ++page) {
            pages.push_back({.slot_class = 0, .group = page / kExperts, .slices = {}, .expert = int32_t(page)});
            for (uint32_t part = 0; part < kParts; ++part) {
                pages.back().slices.push_back(
                    {0, content.size(), kMatrixBytes, kSlack + part * (kMatrixBytes + kSlack), "weight"});
                const std::vector<float> values(kColumns, number(page / kExperts, page % kExperts, part));
                content.append(reinterpret_cast<const char*>(values.data()), kMatrixBytes);
            }
        }
        dir_.write("model", content);
        auto raw = std::make_unique<residency::ManualReader>();
        manual_ = raw.get();
        std::vector<storage::DirectFile> files;
        files.push_back(storage::DirectFile::open(dir_.file("model")).value());
        reader_ = std::make_unique<storage::BlockReader>(std::move(raw), std::move(files));
        cache_.emplace(residency::SlotCache::create({{kSlotBytes, ram_slots}}, std::move(pages), *reader_).value());
    }
    std::unique_ptr<DeviceBank> make_bank(uint32_t slots) {
        ExpertGroupLayout group;
        group.experts = kExperts;
        for (uint32_t part = 0; part < kParts; ++part) {
            const GgmlContextHandle& context =
                contexts_.emplace_back(ggml_init({.mem_size = ggml_tensor_overhead() * 2, .no_alloc = true}));
            group.parts.push_back({.tensor = ggml_new_tensor_3d(context.get(), GGML_TYPE_F32, kColumns, 1, kExperts),
                                   .bytes = kMatrixBytes});
        }
        return DeviceBank::create(*stream_, group, slots, 16).value();
    }
    static float number(uint32_t layer, uint32_t expert, uint32_t part) {
        return static_cast<float>(100 * (layer + 1) + 10 * expert + part);
    }
    BatchStaging::Layer layer(uint32_t number) { return {banks_[number].get(), number * kExperts}; }

    // As WeightStreamer does: pages are demanded, then the routing begins. `later`: the layer behind it is guessed.
    Status begin(uint32_t number, std::vector<uint32_t> named, bool later = false) {
        staging_->settle();
        std::erase_if(named, [&](uint32_t expert) { return banks_[number]->slot_of(expert) >= 0; });
        cache_->release(pinned_);
        pinned_.clear();
        for (const uint32_t expert : named) pinned_.push_back(number * kExperts + expert);
        HYPURA_TRY(cache_->acquire(pinned_));
        return staging_->begin(layer(number), later ? layer(number + 1) : BatchStaging::Layer{}, *cache_, named);
    }
    // What the index names for each expert of the layer in hand is that expert's matrix.
    void expect_right(uint32_t layer, size_t part, const std::vector<uint32_t>& named) {
        const auto brought = staging_->bring(part);
        ASSERT_TRUE(brought) << brought.error().message;
        ggml_tensor* const ids = ggml_new_tensor_2d(ids_context_.get(), GGML_TYPE_I32, int64_t(named.size()), 1);
        const std::vector<int32_t> experts(named.begin(), named.end());
        const ggml_tensor* const index = staging_->fill_index(ids, experts);
        for (size_t i = 0; i < named.size(); ++i) {
            const int32_t matrix = static_cast<const int32_t*>(index->data)[i];
            ASSERT_LT(matrix, (*brought)->ne[2]);
            const auto* const values = static_cast<const float*>((*brought)->data) + matrix * kColumns;
            EXPECT_THAT(std::span(values, kColumns), testing::Each(number(layer, named[i], uint32_t(part))))
                << "layer " << layer << " expert " << named[i] << " part " << part;
        }
    }
    void expect_all_right(uint32_t layer, const std::vector<uint32_t>& named) {
        for (size_t part = 0; part < kParts; ++part) {
            expect_right(layer, part, named);
            ASSERT_TRUE(staging_->release(part));
        }
        staging_->end();
    }
    std::vector<int32_t> experts_in(uint32_t layer) const {
        std::vector<int32_t> experts;
        for (uint32_t slot = 0; slot < banks_[layer]->slots(); ++slot)
            experts.push_back(banks_[layer]->expert_in(slot));
        return experts;
    }
    // Fills RAM slots and both banks: with experts 0 and 1 where they have two slots.
    void fill() {
        for (uint32_t number = 0; number < kLayers; ++number) {
            ASSERT_TRUE(begin(number, all_));
            expect_all_right(number, all_);
        }
    }

    const std::vector<uint32_t> all_ = {0, 1, 2, 3, 4, 5};
    test::TempDir dir_;
    std::unique_ptr<storage::BlockReader> reader_;
    residency::ManualReader* manual_ = nullptr;
    std::optional<residency::SlotCache> cache_;
    std::vector<residency::PageId> pinned_;
    std::vector<GgmlContextHandle> contexts_;
    GgmlContextHandle ids_context_{ggml_init({.mem_size = 1 << 20, .mem_buffer = nullptr, .no_alloc = false})};
    std::unique_ptr<DeviceStream> stream_;
    std::array<std::unique_ptr<DeviceBank>, kLayers> banks_;
    std::unique_ptr<BatchStaging> staging_;  // ends before what it reads
};

TEST_F(BatchStagingTest, WhatComesFirstIsKeptInFreeSlots) {
    open(2);
    const std::vector<uint32_t> named = {4, 2, 0, 1, 5};
    ASSERT_TRUE(begin(0, named));
    expect_all_right(0, named);
    EXPECT_THAT(experts_in(0), ElementsAre(4, 2));
    const uint64_t first = staging_->uploaded_bytes();
    EXPECT_EQ(first, 5 * kParts * kMatrixBytes);
    ASSERT_TRUE(begin(0, named));
    expect_all_right(0, named);
    EXPECT_EQ(staging_->uploaded_bytes() - first, 3 * kParts * kMatrixBytes);
}

TEST_F(BatchStagingTest, WaitsForReads) {
    open(1);
    manual_->held = true;
    ASSERT_TRUE(begin(0, all_));
    EXPECT_GT(manual_->in_flight(), 0u);
    expect_all_right(0, all_);
}

TEST_F(BatchStagingTest, TheNextLayerBeginsBeforeItIsRouted) {
    open(2);
    fill();
    const uint64_t before = staging_->uploaded_bytes();
    ASSERT_TRUE(begin(0, all_, true));
    expect_all_right(0, all_);
    constexpr uint64_t kAbsent = kExperts - 2, kBuffers = 2;
    EXPECT_EQ(staging_->uploaded_bytes() - before, (kParts + kBuffers) * kAbsent * kMatrixBytes);
    ASSERT_TRUE(begin(1, all_));
    expect_all_right(1, all_);
}

TEST_F(BatchStagingTest, WrongGuessesDoNoHarm) {
    open(2);
    fill();
    const std::vector<uint32_t> few = {5, 3, 0};
    for (int round = 0; round < 20; ++round) {
        ASSERT_TRUE(begin(0, all_, true));
        expect_all_right(0, all_);
        ASSERT_TRUE(begin(1, few));
        expect_all_right(1, few);
    }
}

// RAM slots that were guessed from are given to others before the routing begins.
TEST_F(BatchStagingTest, WhatWasNotGuessedIsReadIntoSlotsThatWere) {
    open(2, kExperts);  // in RAM: one layer's
    ASSERT_TRUE(begin(1, all_));
    expect_all_right(1, all_);
    const std::vector<uint32_t> few = {0, 1};
    for (int round = 0; round < 20; ++round) {
        ASSERT_TRUE(begin(0, few, true));
        expect_all_right(0, few);
        ASSERT_TRUE(begin(1, all_));
        expect_all_right(1, all_);
    }
}

TEST_F(BatchStagingTest, PartsInAnotherOrderAndTwice) {
    open(2);
    for (int round = 0; round < 3; ++round) {
        ASSERT_TRUE(begin(0, all_, round > 0));
        for (const size_t part : {2, 2, 0, 1, 0}) {
            expect_right(0, part, all_);
            ASSERT_TRUE(staging_->release(part));
        }
        staging_->end();
        ASSERT_TRUE(begin(1, all_));
        expect_all_right(1, all_);
    }
}

TEST_F(BatchStagingTest, OneRoutingAtATime) {
    open(2);
    ASSERT_TRUE(begin(0, all_));
    const Status second = staging_->begin(layer(1), {}, *cache_, all_);
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code, ErrorCode::kUnsupportedModel);
    expect_all_right(0, all_);
}

TEST_F(BatchStagingTest, AnotherLayerThanTheGuessedOne) {
    open(2);
    fill();
    ASSERT_TRUE(begin(0, all_, true));
    expect_all_right(0, all_);
    ASSERT_TRUE(begin(0, all_));
    expect_all_right(0, all_);
    staging_->abandon();
    ASSERT_TRUE(begin(1, all_));
    expect_all_right(1, all_);
}

TEST_F(BatchStagingTest, AFailedReadFreesTheSlotsThatWereToBeFilled) {
    open(2);
    manual_->broken_offset = 3 * kParts * kMatrixBytes;  // expert 3 of layer 0
    const Status begun = begin(0, all_);
    EXPECT_FALSE(begun && staging_->bring(0));
    staging_->end();
    staging_->abandon();
    EXPECT_THAT(experts_in(0), ElementsAre(-1, -1));
    manual_->broken_offset.reset();
    ASSERT_TRUE(begin(0, all_));
    expect_all_right(0, all_);
}

}  // namespace
}  // namespace hypura::engine
