package configapi

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/store"
)

// A tag's id has the number of its type above that of its value. Types that
// the system knows have fixed numbers, those of users others.
const (
	tagTypes      = "tag-type"
	firstUserType = 255
	maxTagNumber  = math.MaxUint16
	// labelType is the one type of which an object may have many tags.
	labelType = "label"
	// everybodyUses lets all tenants read and refer to a tag of the whole cluster.
	everybodyUses = 5
)

// predefinedTypes are at the index that is their number.
var predefinedTypes = []string{labelType, "application", "tier", "deployment", "site"}

// tagValues is the kind of the numbers of a type's values.
func tagValues(typeName string) string { return "tag:" + typeName }

// nameTag gives a tag the name that follows from its type and value.
func nameTag(o model.Object) error {
	tag, ok := o.(*model.Tag)
	if !ok {
		return nil
	}
	if tag.TagTypeName == "" || tag.TagValue == "" {
		return invalid("Tag must be created with a type and a value: set tag_type_name and tag_value")
	}
	tag.TagTypeName = strings.ToLower(tag.TagTypeName)
	if strings.Contains(tag.TagTypeName, "=") {
		return invalid("Bad property in create: tag_type_name is %s, want a name without =", quoteText(tag.TagTypeName))
	}
	name := tag.TagTypeName + "=" + tag.TagValue
	tag.FQName[len(tag.FQName)-1] = name
	tag.DisplayName = name
	return nil
}

// prepareTag gives a new tag its id and its type, which comes into being with
// the first tag of it.
func (c *change) prepareTag(tag *model.Tag, refs []model.Reference) error {
	if tag.TagID != "" {
		return invalid("Tag ID is not setable")
	}
	for _, r := range refs {
		if r.To.Kind == model.KindTagType {
			return invalid("Tag Type reference is not setable")
		}
	}
	typ, err := c.tagType(tag.TagTypeName)
	if err != nil {
		return err
	}
	number, err := strconv.ParseUint(typ.TagTypeID, 0, 16)
	if err != nil {
		return fmt.Errorf("read id of tag-type %s: %w", typ.UUID, err)
	}
	value, err := c.takeNumber(tagValues(tag.TagTypeName), 1, maxTagNumber, tag.UUID)
	if err != nil {
		return err
	}
	tag.TagID = fmt.Sprintf("0x%04x%04x", number, value)
	if tag.ParentUUID == "" && tag.Perms2 != nil && model.ValueOr(tag.Perms2.GlobalAccess, 0) == 0 {
		tag.Perms2.GlobalAccess = new(int64(everybodyUses))
	}
	// Tenants need no rights on the types of their tags.
	c.Txn.PutReference(model.Reference{From: model.EntityOf(tag), To: model.EntityOf(typ)})
	return nil
}

// tagType finds a type of tags, or creates it.
func (c *change) tagType(name string) (*model.TagType, error) {
	if o, ok := c.v.ByName(model.KindTagType, []string{name}); ok {
		c.Need(model.EntityOf(o))
		return o.(*model.TagType), nil
	}
	meta, err := c.meta(model.NewUUID(), nil, name)
	if err != nil {
		return nil, err
	}
	typ := &model.TagType{Meta: meta}
	if err := c.prepareTagType(typ); err != nil {
		return nil, err
	}
	c.makeByItself(typ)
	c.own(typ)
	return typ, nil
}

// prepareTagType gives a new type of tags its number.
func (c *change) prepareTagType(typ *model.TagType) error {
	name := typ.Name()
	if name != strings.ToLower(name) || strings.Contains(name, "=") {
		return invalid("Bad Request, fq_name %s of a tag-type; want a name in lower case without =", pyList(typ.FQName))
	}
	for i, predefined := range predefinedTypes {
		if name == predefined {
			c.Create(store.NumberKey(tagTypes, uint32(i)), []byte(typ.UUID))
			typ.TagTypeID = fmt.Sprintf("0x%04x", i)
			return nil
		}
	}
	if typ.TagTypeID != "" {
		return invalid("Tag Type ID is not setable")
	}
	n, err := c.takeNumber(tagTypes, firstUserType, maxTagNumber, typ.UUID)
	typ.TagTypeID = fmt.Sprintf("0x%04x", n)
	return err
}

// returnTag gives the number of a tag back, and its type when that came into
// being with a tag and this was the last.
func (c *change) returnTag(tag *model.Tag) error {
	id, err := strconv.ParseUint(tag.TagID, 0, 32)
	if err != nil {
		return fmt.Errorf("read id of tag %s: %w", tag.UUID, err)
	}
	if err := c.giveBack(store.NumberKey(tagValues(tag.TagTypeName), uint32(id)&maxTagNumber), ""); err != nil {
		return err
	}
	o, ok := c.v.ByName(model.KindTagType, []string{tag.TagTypeName})
	if !ok || !c.api.ledger.isOwned(o.GetMeta().UUID) || c.v.CountBackReferences(o.GetMeta().UUID, "") > 1 {
		return nil
	}
	if err := c.returnTagType(o.(*model.TagType)); err != nil {
		return err
	}
	c.deleted[o.GetMeta().UUID] = true
	c.Txn.DeleteObject(o, c.since)
	c.Delete(store.OwnedKey(o.GetMeta().UUID))
	return nil
}

// returnTagType gives the number of a type of tags back.
func (c *change) returnTagType(typ *model.TagType) error {
	id, err := strconv.ParseUint(typ.TagTypeID, 0, 16)
	if err != nil {
		return fmt.Errorf("read id of tag-type %s: %w", typ.UUID, err)
	}
	if id < firstUserType {
		return denied("tag-type %s is predefined and cannot be deleted", typ.Name())
	}
	return c.giveBack(store.NumberKey(tagTypes, uint32(id)), "")
}
