// Pictures of measurements, drawn by gnuplot.
#pragma once

#include "base/status.h"

#include <string>
#include <utility>
#include <vector>

namespace hypura::cli {

struct ChartSeries {
    std::string name;
    std::vector<std::pair<double, double>> points;
};

struct Chart {
    std::string title;
    std::string x_label;
    std::string y_label;
    bool bars = false;   // groups of bars: point i of each series belongs to categories[i]
    bool log_x = false;  // to the base of 2
    bool log_y = false;
    std::vector<std::string> categories;
    std::vector<ChartSeries> series;
};

// What gnuplot is told; `path` ends in .svg or .png.
Result<std::string> gnuplot_script(const Chart& chart, const std::string& path);

// kUnsupportedHost when gnuplot is not on PATH; kInvalidArgument for another ending of `path`.
Status draw_chart(const Chart& chart, const std::string& path);

}  // namespace hypura::cli
