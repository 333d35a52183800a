-- What `make mutations` takes out is there to be taken out.
local files = require "parley.base.files"
local mutations = require "spec.simulation.mutations"

describe("the mutations of the simulation", function()
  it("each have a text that stands in its file once, and make a chunk of it that can be loaded", function()
    assert.is_true(#mutations >= 40)
    for _, mutation in ipairs(mutations) do
      local text = assert(files.read(mutation.file))
      local first, last = text:find(mutation.old, 1, true)
      assert(first, ("'%s' is not in %s"):format(mutation.what, mutation.file))
      assert.is_nil(text:find(mutation.old, last + 1, true), mutation.what)
      assert(load(text:sub(1, first - 1) .. mutation.new .. text:sub(last + 1)))
    end
  end)
end)
