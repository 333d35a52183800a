--- The last bytes of a stream, in bounded memory. Small pieces are gathered into blocks, so that each costs the same
--- however many there are; the oldest block goes when the others are enough.
local M = {}

--- Pieces are gathered when they have so many bytes together, or are so many.
local BLOCK_BYTES, MOST_PIECES = 16 * 1024, 256

---@class parley.LastBytes
---@field package limit integer
---@field package blocks string[]  from `first` to `last`
---@field package pieces string[]  not gathered yet
local LastBytes = {}
LastBytes.__index = LastBytes

--- Makes an empty one.
---@param limit integer  how many bytes are kept
---@return parley.LastBytes
function M.new(limit)
  return setmetatable({ limit = limit, blocks = {}, first = 1, last = 0, size = 0, pieces = {}, count = 0,
    pieces_size = 0 }, LastBytes)
end

local function gather(self)
  if self.count == 0 then return end
  self.last = self.last + 1
  self.blocks[self.last] = table.concat(self.pieces, "", 1, self.count)
  self.size = self.size + self.pieces_size
  self.pieces, self.count, self.pieces_size = {}, 0, 0
  while self.size - #self.blocks[self.first] >= self.limit do
    self.size = self.size - #self.blocks[self.first]
    self.blocks[self.first] = nil
    self.first = self.first + 1
  end
end

--- Takes in what comes next.
---@param bytes string
function LastBytes:add(bytes)
  self.count = self.count + 1
  self.pieces[self.count], self.pieces_size = bytes, self.pieces_size + #bytes
  if self.count == MOST_PIECES or self.pieces_size >= BLOCK_BYTES then gather(self) end
end

--- The last bytes, at most `limit`.
---@return string
function LastBytes:text()
  gather(self)
  return table.concat(self.blocks, "", self.first, self.last):sub(-self.limit)
end

return M
