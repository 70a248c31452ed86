// Device slots and products in pieces, on the one device that every machine has: the processor.
#include "engine/device_bank.h"
#include "engine/llama_library.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

namespace hypura::engine {
namespace {

using testing::ElementsAre;

constexpr int64_t kColumns = 4, kRows = 3;
constexpr uint32_t kExperts = 6;

ggml_backend_dev_t processor() {
    start_llama();
    return ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
}

class DeviceBankTest : public testing::Test {
protected:
    DeviceBankTest()
        : context_(ggml_init({.mem_size = 1 << 20, .mem_buffer = nullptr, .no_alloc = false})),
          stream_(DeviceStream::create(processor(), 2 * matrix_bytes()).value()) {
        experts_ = ggml_new_tensor_3d(context_.get(), GGML_TYPE_F32, kColumns, kRows, kExperts);
        group_.experts = kExperts;
        group_.parts.push_back({.tensor = experts_, .bytes = matrix_bytes()});
    }
    static uint64_t matrix_bytes() { return kColumns * kRows * sizeof(float); }
    // Every element of expert e is e + 1.
    static std::vector<float> matrix(uint32_t expert) {
        return std::vector<float>(kColumns * kRows, static_cast<float>(expert + 1));
    }
    std::unique_ptr<DeviceBank> make_bank(uint32_t slots) {
        return DeviceBank::create(*stream_, group_, slots, 16).value();
    }
    static void assign(DeviceBank& bank, const std::vector<uint32_t>& experts) { ASSERT_TRUE(bank.assign(experts)); }

    GgmlContextHandle context_;
    std::unique_ptr<DeviceStream> stream_;
    ggml_tensor* experts_ = nullptr;
    ExpertGroupLayout group_;
};

TEST_F(DeviceBankTest, RebindsTheTensorToItsSlots) {
    const auto bank = make_bank(4);
    EXPECT_EQ(experts_->ne[2], 4);
    EXPECT_EQ(experts_->nb[2], matrix_bytes());
    EXPECT_EQ(bank->bytes(), 4 * matrix_bytes());
}

TEST_F(DeviceBankTest, AnExpertThatIsHereStaysAndTheColdestLeaves) {
    const auto bank = make_bank(3);
    for (int i = 0; i < 3; ++i) assign(*bank, {0, 1});
    assign(*bank, {0, 2});
    EXPECT_EQ(bank->arrivals().size(), 1u);
    assign(*bank, {0, 3});
    ASSERT_EQ(bank->arrivals().size(), 1u);
    EXPECT_EQ(bank->arrivals()[0].expert, 3u);
    EXPECT_EQ(bank->slot_of(2), -1);
    EXPECT_GE(bank->slot_of(0), 0);
    EXPECT_GE(bank->slot_of(1), 0);
}

TEST_F(DeviceBankTest, WhatTheRoutingUsesNeverLeaves) {
    const auto bank = make_bank(2);
    for (int i = 0; i < 9; ++i) assign(*bank, {4, 5});
    assign(*bank, {0, 1});
    EXPECT_EQ(bank->arrivals().size(), 2u);
    EXPECT_NE(bank->slot_of(0), bank->slot_of(1));
    EXPECT_EQ(bank->slot_of(4), -1);
}

TEST_F(DeviceBankTest, MoreExpertsThanSlotsChangeNothing) {
    const auto bank = make_bank(2);
    assign(*bank, {0, 1});
    EXPECT_FALSE(bank->assign(std::vector<uint32_t>{0, 1, 2}));
    EXPECT_TRUE(bank->arrivals().empty());
    EXPECT_GE(bank->slot_of(0), 0);
    EXPECT_EQ(bank->slot_of(2), -1);
}

TEST_F(DeviceBankTest, ArrivalsThatDidNotComeAreForgotten) {
    const auto bank = make_bank(2);
    assign(*bank, {0, 1});
    bank->undo_arrivals();
    EXPECT_EQ(bank->slot_of(0), -1);
    assign(*bank, {0, 1});
    EXPECT_EQ(bank->arrivals().size(), 2u);
}

TEST_F(DeviceBankTest, FreeSlotsAreFilledAndNobodyLeaves) {
    const auto bank = make_bank(3);
    assign(*bank, {4});
    EXPECT_TRUE(bank->has_free_slots());
    bank->assign_free(std::vector<uint32_t>{5, 4, 0, 1});
    EXPECT_EQ(bank->arrivals().size(), 2u);
    EXPECT_FALSE(bank->has_free_slots());
    EXPECT_GE(bank->slot_of(4), 0);
    EXPECT_GE(bank->slot_of(5), 0);
    EXPECT_GE(bank->slot_of(0), 0);
    EXPECT_EQ(bank->slot_of(1), -1);
    bank->undo_arrivals();
    EXPECT_EQ(bank->slot_of(5), -1);
    EXPECT_GE(bank->slot_of(4), 0);
}

TEST_F(DeviceBankTest, ListsSlotsInTheOrderInWhichTheyWouldBeFreed) {
    const auto bank = make_bank(3);
    assign(*bank, {0, 1});
    assign(*bank, {0});
    std::vector<uint32_t> slots;
    bank->list_coldest(slots);
    const auto slot = [&](uint32_t expert) { return static_cast<uint32_t>(bank->slot_of(expert)); };
    EXPECT_THAT(slots, ElementsAre(3 - slot(0) - slot(1), slot(1), slot(0)));  // the free one first
}

TEST_F(DeviceBankTest, WhatOthersWroteTakesThePlaceOfWhatWasThere) {
    const auto bank = make_bank(2);
    assign(*bank, {0, 1});
    const auto slot = static_cast<uint32_t>(bank->slot_of(0));
    bank->adopt(4, slot);
    EXPECT_EQ(bank->slot_of(0), -1);
    EXPECT_EQ(bank->expert_in(slot), 4);
    bank->vacate(slot);
    EXPECT_EQ(bank->slot_of(4), -1);
    assign(*bank, {1, 5});
    EXPECT_EQ(bank->slot_of(5), static_cast<int32_t>(slot));
}

TEST_F(DeviceBankTest, AHundredThousandRoutingsDoNotOverflowTheHeat) {
    const auto bank = make_bank(2);
    for (uint32_t i = 0; i < 100000; ++i) assign(*bank, {i % 2, 2 + i % 2});
    assign(*bank, {0, 2});
    EXPECT_GE(bank->slot_of(0), 0);
}

TEST_F(DeviceBankTest, TheIndexNamesSlots) {
    const auto bank = make_bank(2);
    assign(*bank, {5, 3});
    ggml_tensor* const ids = ggml_new_tensor_2d(context_.get(), GGML_TYPE_I32, 2, 2);
    const std::vector<int32_t> experts = {3, 5, 5, 3};
    const ggml_tensor* const index = bank->fill_index(ids, experts);
    const auto* const read = reinterpret_cast<const int32_t*>(stream_->begin_read(index).value());
    stream_->wait();
    const std::vector<int32_t> slots(read, read + 4);
    EXPECT_THAT(slots, ElementsAre(bank->slot_of(3), bank->slot_of(5), bank->slot_of(5), bank->slot_of(3)));
    EXPECT_EQ(index->ne[1], 2);
}

// node = MUL_MAT_ID(experts, input, ids) over two tokens with two experts each.
TEST_F(DeviceBankTest, PiecesMakeUpTheWholeProduct) {
    const auto bank = make_bank(2);
    assign(*bank, {1, 4});
    for (const DeviceBank::Arrival& arrival : bank->arrivals()) {
        const std::vector<float> values = matrix(arrival.expert);
        const DeviceWriter::Matrix matrix =
            bank->matrix(0, arrival.slot, reinterpret_cast<const std::byte*>(values.data()));
        stream_->upload(matrix.tensor, matrix.offset, matrix.data, matrix.bytes);
        stream_->wait();
    }
    ggml_backend_t const backend = ggml_backend_dev_init(processor(), nullptr);
    const BackendHandle owner(backend);
    const GgmlContextHandle graph(ggml_init({.mem_size = 1 << 16, .mem_buffer = nullptr, .no_alloc = true}));
    ggml_tensor* const input = ggml_new_tensor_3d(graph.get(), GGML_TYPE_F32, kColumns, 1, 2);
    ggml_tensor* const ids = ggml_new_tensor_2d(graph.get(), GGML_TYPE_I32, 2, 2);
    ggml_tensor* const node = ggml_mul_mat_id(graph.get(), experts_, input, ids);
    const BufferHandle buffer(ggml_backend_alloc_ctx_tensors(graph.get(), backend));
    const std::vector<float> inputs = {1, 1, 1, 1, 2, 2, 2, 2};
    ggml_backend_tensor_set(input, inputs.data(), 0, inputs.size() * sizeof(float));

    // Token 0 is routed to experts 1 and 2, token 1 to 4 and 1; expert 2 passes through the staging memory.
    const std::vector<RoutedRow> here = {{bank->slot_of(1), 0, 0}, {bank->slot_of(4), 0, 1}, {bank->slot_of(1), 1, 1}};
    ASSERT_TRUE(stream_->multiply(node, bank->tensor(0), here));
    ggml_tensor* const staging = stream_->staging_like(experts_, matrix_bytes()).value();
    ASSERT_NE(staging, nullptr);
    EXPECT_EQ(staging->ne[2], 2);
    const std::vector<float> passing = matrix(2);
    stream_->upload(staging, matrix_bytes(), passing.data(), matrix_bytes());
    stream_->wait();
    const std::vector<RoutedRow> rest = {{1, 1, 0}};
    ASSERT_TRUE(stream_->multiply(node, staging, rest));

    std::vector<float> result(kRows * 4);
    ggml_backend_tensor_get(node, result.data(), 0, result.size() * sizeof(float));
    EXPECT_THAT(result, ElementsAre(8, 8, 8, 12, 12, 12, 40, 40, 40, 16, 16, 16));
}

}  // namespace
}  // namespace hypura::engine
