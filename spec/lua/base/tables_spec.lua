local tables = require "parley.base.tables"

describe("tables", function()
  it("merges fields, the later before the earlier, and passes over nil", function()
    local first, second = { a = 1, b = 1 }, { b = false }
    local merged = tables.merged(nil, first, nil, second)
    assert.same({ a = 1, b = false }, merged)
    assert.same({ a = 1, b = 1 }, first)
    assert.are_not.equal(first, tables.merged(first))
  end)

  it("joins lists in their order", function()
    local first = { 1, 2 }
    assert.same({ 1, 2, 3 }, tables.joined(first, {}, { 3 }))
    assert.same({ 1, 2 }, first)
    assert.same({}, tables.joined())
  end)

  it("picks the fields that another table names", function()
    assert.same({ a = false }, tables.picked({ a = false, b = 2 }, { a = {}, c = {} }))
  end)

  it("puts the members of a set in order", function()
    local set = {}
    for number = 1, 20 do set[{ number = 21 - number }] = true end
    for place, member in ipairs(tables.in_order(set, "number")) do assert.equal(place, member.number) end
    assert.same({}, tables.in_order({}, "number"))
  end)

  it("takes a value out of a list", function()
    local list = { "a", "b", "a" }
    assert.equal("a", tables.remove(list, "a"))
    assert.is_nil(tables.remove(list, "c"))
    assert.same({ "b", "a" }, list)
  end)

  it("spells an environment as a list", function()
    assert.same({ "A=", "B=b=c" }, tables.assignments { B = "b=c", A = "" })
  end)
end)
