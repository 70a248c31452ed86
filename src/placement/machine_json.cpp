// The saved form of a machine. One version number: a profile of another one is measured again, not converted.
#include "placement/machine.h"

#include <nlohmann/json.hpp>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <system_error>

namespace hypura::placement {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kVersion = 5;  // 5: the way to other machines

Json rate_json(const MatmulRate& rate) {
    return {{"format", rate.format},
            {"repacked", rate.kind.repacked},
            {"routed", rate.kind.routed},
            {"batch_tokens", rate.batch_tokens},
            {"weight_bytes_per_second", rate.weight_bytes_per_second},
            {"flops", rate.flops}};
}

Json device_json(const ComputeDevice& device) {
    Json json = {{"name", device.name},
                 {"description", device.description},
                 {"kind", device.kind},
                 {"free_bytes", device.free_bytes},
                 {"total_bytes", device.total_bytes},
                 {"upload_bytes_per_second", device.upload_bytes_per_second},
                 {"writes_directly", device.writes_directly},
                 {"node_us", device.node_us},
                 {"trip_us", device.trip_us},
                 {"matmul", Json::array()}};
    for (const MatmulRate& rate : device.rates) json["matmul"].push_back(rate_json(rate));
    return json;
}

Json disk_json(const DiskProfile& disk) {
    Json json = {{"key", disk.key},       {"path", disk.path},     {"measured_s", disk.measured_s},
                 {"direct", disk.direct}, {"proven", disk.proven}, {"made_file", disk.made_file},
                 {"reads", Json::array()}};
    for (const storage::DiskPoint& point : disk.points)
        json["reads"].push_back({{"request_bytes", point.cell.request_bytes},
                                 {"queue_depth", point.cell.queue_depth},
                                 {"bytes_per_second", point.bytes_per_second},
                                 {"reads_per_second", point.reads_per_second},
                                 {"median_us", point.median_us},
                                 {"p99_us", point.p99_us},
                                 {"reads", point.reads}});
    return json;
}

MatmulRate rate_from(const Json& json) {
    return {json.at("format"),
            {json.at("repacked"), json.at("routed")},
            json.at("batch_tokens"),
            json.at("weight_bytes_per_second"),
            json.at("flops")};
}

ComputeDevice device_from(const Json& json) {
    ComputeDevice device;
    device.name = json.at("name");
    device.description = json.at("description");
    device.kind = json.at("kind");
    device.free_bytes = json.at("free_bytes");
    device.total_bytes = json.at("total_bytes");
    device.upload_bytes_per_second = json.at("upload_bytes_per_second");
    device.writes_directly = json.at("writes_directly");
    device.node_us = json.at("node_us");
    device.trip_us = json.at("trip_us");
    for (const Json& rate : json.at("matmul")) device.rates.push_back(rate_from(rate));
    return device;
}

DiskProfile disk_from(const Json& json) {
    DiskProfile disk;
    disk.key = json.at("key");
    disk.path = json.at("path");
    disk.measured_s = json.at("measured_s");
    disk.direct = json.at("direct");
    disk.proven = json.at("proven");
    disk.made_file = json.at("made_file");
    for (const Json& point : json.at("reads"))
        disk.points.push_back({{point.at("request_bytes"), point.at("queue_depth")},
                               point.at("bytes_per_second"),
                               point.at("reads_per_second"),
                               point.at("median_us"),
                               point.at("p99_us"),
                               point.at("reads")});
    return disk;
}

Machine machine_from(const Json& json) {
    Machine machine;
    machine.fingerprint = json.at("fingerprint");
    machine.measured_s = json.at("measured_s");
    machine.processor = json.at("processor");
    machine.cores = json.at("cores");
    machine.features = json.at("features").get<std::vector<std::string>>();
    machine.memory_bytes = json.at("memory_bytes");
    machine.memory_bytes_per_second = json.at("memory_bytes_per_second");
    for (const Json& device : json.at("devices")) machine.devices.push_back(device_from(device));
    for (const Json& disk : json.at("disks")) machine.disks.push_back(disk_from(disk));
    return machine;
}

}  // namespace

std::string machine_json(const Machine& machine) {
    Json json = {{"version", kVersion},
                 {"fingerprint", machine.fingerprint},
                 {"measured_s", machine.measured_s},
                 {"processor", machine.processor},
                 {"cores", machine.cores},
                 {"features", machine.features},
                 {"memory_bytes", machine.memory_bytes},
                 {"memory_bytes_per_second", machine.memory_bytes_per_second},
                 {"devices", Json::array()},
                 {"disks", Json::array()}};
    for (const ComputeDevice& device : machine.devices) json["devices"].push_back(device_json(device));
    for (const DiskProfile& disk : machine.disks) json["disks"].push_back(disk_json(disk));
    // Mount points need not be UTF-8.
    return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

Result<Machine> parse_machine(std::string_view text) try {
    const Json json = Json::parse(text);
    if (json.at("version") != kVersion)
        return fail(ErrorCode::kInvalidArgument, "the saved profile is of another version of hypura");
    Machine machine = machine_from(json);
    if (machine.devices.empty()) return fail(ErrorCode::kInvalidArgument, "the saved profile names no processor");
    return machine;
} catch (const Json::exception& error) {
    return fail(ErrorCode::kInvalidArgument, "the saved profile cannot be read: {}", error.what());
}

Result<Machine> load_machine(const std::string& file) {
    std::ifstream stream(file, std::ios::binary);
    if (!stream) return fail(ErrorCode::kNotFound, "{}: no saved profile", file);
    const std::string text{std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
    auto machine = parse_machine(text);
    if (!machine) return fail(machine.error().code, "{}: {}", file, machine.error().message);
    return machine;
}

// Written beside and renamed, so that a reader never sees half a profile.
Status save_machine(const Machine& machine, const std::string& file) {
    std::error_code error;
    std::filesystem::create_directories(std::filesystem::path(file).parent_path(), error);
    const std::string partial = file + ".partial";
    {
        std::ofstream stream(partial, std::ios::binary | std::ios::trunc);
        stream << machine_json(machine);
        if (!stream.flush()) return fail(ErrorCode::kPermissionDenied, "{}: cannot be written", partial);
    }
    std::filesystem::rename(partial, file, error);
    if (error) return std::unexpected(error_from_errno(error.value(), "save the profile", file));
    return {};
}

}  // namespace hypura::placement
