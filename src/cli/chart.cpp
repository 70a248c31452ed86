#include "cli/chart.h"

#include "cli/child_process.h"

#include <format>

namespace hypura::cli {
namespace {

// gnuplot's double-quoted strings.
std::string quoted(std::string_view text) {
    std::string quoted = "\"";
    for (const char c : text) {
        if (c == '"' || c == '\\') quoted += '\\';
        quoted += c == '\n' ? ' ' : c;
    }
    return quoted + '"';
}

Result<std::string> terminal(const std::string& path) {
    if (path.ends_with(".svg")) return "set terminal svg size 960,540 dynamic enhanced background rgb 'white'\n";
    if (path.ends_with(".png")) return "set terminal pngcairo size 960,540 enhanced\n";
    return fail(ErrorCode::kInvalidArgument, "--plot: {} ends neither in .svg nor in .png", path);
}

std::string axes(const Chart& chart) {
    std::string text = std::format("set title {} noenhanced\nset xlabel {} noenhanced\nset ylabel {} noenhanced\n",
                                   quoted(chart.title), quoted(chart.x_label), quoted(chart.y_label));
    text += "set key outside right top noenhanced\nset grid ytics\nset border 3\nset tics nomirror\n";
    if (chart.log_x) text += "set logscale x 2\n";
    text += chart.log_y ? "set logscale y\n" : "set yrange [0:*]\n";
    if (chart.bars) text += "set style data histograms\nset style fill solid 0.8\nset boxwidth 0.9\n";
    return text;
}

// One data block a series.
std::string data_blocks(const Chart& chart) {
    std::string text;
    for (size_t s = 0; s < chart.series.size(); ++s) {
        text += std::format("$series{} << END\n", s);
        const auto& points = chart.series[s].points;
        for (size_t i = 0; i < points.size(); ++i)
            text += chart.bars ? std::format("{} {:.9g}\n", quoted(chart.categories.at(i)), points[i].second)
                               : std::format("{:.9g} {:.9g}\n", points[i].first, points[i].second);
        text += "END\n";
    }
    return text;
}

std::string plot_command(const Chart& chart) {
    std::string text = "plot ";
    for (size_t s = 0; s < chart.series.size(); ++s)
        text += std::format("{}$series{} using {} title {}", s == 0 ? "" : ", ", s,
                            chart.bars ? "2:xtic(1)" : "1:2 with linespoints", quoted(chart.series[s].name));
    return text + "\n";
}

}  // namespace

Result<std::string> gnuplot_script(const Chart& chart, const std::string& path) {
    HYPURA_ASSIGN(const std::string head, terminal(path));
    return head + std::format("set output {}\n", quoted(path)) + axes(chart) + data_blocks(chart) + plot_command(chart);
}

Status draw_chart(const Chart& chart, const std::string& path) {
    HYPURA_ASSIGN(std::string script, gnuplot_script(chart, path));
    const auto drawn = run_child({.arguments = {"gnuplot", "-"}, .input = std::move(script)});
    if (!drawn && drawn.error().code == ErrorCode::kNotFound)
        return fail(ErrorCode::kUnsupportedHost, "--plot: gnuplot is not on PATH (Debian and Ubuntu: gnuplot-nox)");
    if (!drawn) return std::unexpected(drawn.error());
    if (drawn->exit_code != 0) return fail(ErrorCode::kInternal, "--plot: gnuplot failed: {}", drawn->err);
    return {};
}

}  // namespace hypura::cli
