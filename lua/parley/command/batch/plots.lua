--- Small plots as inline SVG. What they are given is numbers and texts that are escaped already.
local M = {}

local WIDTH, HEIGHT, BINS = 300, 84, 24
local STRIP, CELLS = 22, 300

local function svg(height, width, title, body)
  return ('<svg viewBox="0 0 %d %d" role="img" preserveAspectRatio="none" '
    .. 'shape-rendering="crispEdges"><title>%s</title>%s</svg>'):format(width,
    height, title, body)
end

local function rect(class, x, y, width, height)
  return ('<rect class="%s" x="%.2f" y="%.2f" width="%.2f" height="%.2f"/>'):format(class, x, y, width, height)
end

--- The value that a share of a sorted list is not above.
---@param sorted number[]  not empty
---@param share number      0 to 1
---@return number
function M.quantile(sorted, share) return sorted[math.max(1, math.ceil(share * #sorted))] end

--- How often values come, from 0 to the greatest.
---@param sorted number[]  not empty
---@param title string
---@return string
function M.histogram(sorted, title)
  local greatest, bins, most = math.max(sorted[#sorted], 1e-9), {}, 0
  for i = 1, BINS do bins[i] = 0 end
  for _, value in ipairs(sorted) do
    local bin = math.min(BINS, math.floor(math.max(0, value) / greatest * BINS) + 1)
    bins[bin] = bins[bin] + 1
    most = math.max(most, bins[bin])
  end
  local bars, width = {}, WIDTH / BINS
  for i, count in ipairs(bins) do
    -- What is there is seen, be it ever so little beside the others.
    local height = count > 0 and math.max(2, count / most * (HEIGHT - 2)) or 0
    if height > 0 then
      table.insert(bars, rect("bar", (i - 1) * width + 0.5, HEIGHT - height, width - 1, height))
    end
  end
  table.insert(bars, rect("axis", 0, HEIGHT - 0.5, WIDTH, 0.5))
  return svg(HEIGHT, WIDTH, title, table.concat(bars))
end

--- One thing after the other, and which of them failed. Many share a cell, whose red part is theirs that failed.
---@param has_failed boolean[]  not empty
---@param title string
---@return string
function M.strip(has_failed, title)
  local cells = math.min(CELLS, #has_failed)
  local width, parts = WIDTH / cells, {}
  local function cell(index, first, last)
    local bad = 0
    for i = first, last do bad = bad + (has_failed[i] and 1 or 0) end
    local x, red = (index - 1) * width, bad / (last - first + 1) * STRIP
    if red > 0 then red = math.max(red, 3) end
    if red < STRIP then table.insert(parts, rect("good", x, 0, width, STRIP - red)) end
    if red > 0 then table.insert(parts, rect("bad", x, STRIP - red, width, red)) end
  end
  for index = 1, cells do
    cell(index, (index - 1) * #has_failed // cells + 1, index * #has_failed // cells)
  end
  return svg(STRIP, WIDTH, title, table.concat(parts))
end

--- A bar as long as a share of the whole.
---@param share number  0 to 1
---@param title string
---@return string
function M.share(share, title)
  return svg(10, WIDTH, title, rect("rest", 0, 0, WIDTH, 10) .. rect("bad", 0, 0, math.max(2, share * WIDTH), 10))
end

return M
