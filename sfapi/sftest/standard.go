package sftest

// addressOf declares the parts of an address and the compound field over them.
func addressOf(prefix string) []Field {
	parts := map[string]string{
		"street": prefix + "Street", "city": prefix + "City", "state": prefix + "State",
		"postalCode": prefix + "PostalCode", "country": prefix + "Country",
	}
	return []Field{
		{Name: prefix + "Street", Type: TypeTextarea, Length: 255},
		{Name: prefix + "City", Length: 40},
		{Name: prefix + "State", Length: 80},
		{Name: prefix + "PostalCode", Length: 20},
		{Name: prefix + "Country", Length: 80},
		{Name: prefix + "Address", Type: TypeAddress, ReadOnly: true, parts: parts},
	}
}

// owner is the field that most objects have.
var owner = Field{Name: "OwnerId", Type: TypeReference, ReferenceTo: "User"}

// The external ids that every seeded object has: Ext__c and Ext_Id__c are
// unique, Legacy_Id__c is not, so that an upsert by it can match several rows.
var externalIDs = []Field{
	{Name: "Ext__c", ExternalID: true, Unique: true},
	{Name: "Ext_Id__c", ExternalID: true, Unique: true, CaseSensitive: true},
	{Name: "Legacy_Id__c", ExternalID: true, Length: 40},
}

// StandardObjects returns the objects that a new org has: Account, Contact,
// Widget__c, User and Organization.
func StandardObjects() []Object {
	account := []Field{
		{Name: "Name", Label: "Account Name", Required: true},
		{Name: "Type", Type: TypePicklist, Picklist: []string{"Prospect", "Customer", "Partner"}},
		{Name: "ParentId", Type: TypeReference, ReferenceTo: "Account", Relationship: "Parent"},
	}
	account = append(account, addressOf("Billing")...)
	account = append(account,
		Field{Name: "Phone", Type: TypePhone},
		Field{Name: "Website", Type: TypeURL},
		Field{Name: "Industry", Type: TypePicklist, Picklist: []string{"Agriculture", "Banking", "Energy", "Technology"}},
		Field{Name: "AnnualRevenue", Type: TypeCurrency, Precision: 18, Scale: 2},
		Field{Name: "NumberOfEmployees", Type: TypeInt, Precision: 8},
		Field{Name: "Description", Type: TypeTextarea, Length: 32000},
		Field{Name: "Rating", Type: TypePicklist, Picklist: []string{"Hot", "Warm", "Cold"}, Restricted: true},
		Field{Name: "Active__c", Type: TypeBoolean, Default: false},
		Field{Name: "Score__c", Type: TypeDouble, Precision: 18, Scale: 6},
		Field{Name: "Discount__c", Type: TypePercent, Precision: 5, Scale: 2},
		Field{Name: "Founded__c", Type: TypeDate},
		Field{Name: "LastReview__c", Type: TypeDateTime},
		Field{Name: "Contact_Email__c", Type: TypeEmail},
		Field{Name: "Logo__c", Type: TypeBase64},
	)
	account = append(account, externalIDs...)
	account = append(account, owner)

	contact := []Field{
		{Name: "AccountId", Type: TypeReference, ReferenceTo: "Account"},
		{Name: "LastName", Required: true, Length: 80},
		{Name: "FirstName", Length: 40},
		{Name: "Name", Label: "Full Name", Length: 121, ReadOnly: true},
		{Name: "Salutation", Type: TypePicklist, Picklist: []string{"Mr.", "Ms.", "Dr."}},
		{Name: "Title", Length: 128},
		{Name: "Department", Length: 80},
		{Name: "Email", Type: TypeEmail},
		{Name: "Phone", Type: TypePhone},
		{Name: "MobilePhone", Type: TypePhone},
		{Name: "Birthdate", Type: TypeDate},
		{Name: "LeadSource", Type: TypePicklist, Picklist: []string{"Web", "Phone Inquiry", "Other"}},
		{Name: "Description", Type: TypeTextarea, Length: 32000},
		{Name: "HasOptedOutOfEmail", Type: TypeBoolean, Default: false},
		{Name: "Score__c", Type: TypeDouble, Precision: 18, Scale: 6},
		{Name: "Budget__c", Type: TypeCurrency},
		{Name: "Visits__c", Type: TypeInt, Precision: 8},
		{Name: "Probability__c", Type: TypePercent, Precision: 5, Scale: 2},
		{Name: "LastCall__c", Type: TypeDateTime},
		{Name: "Site__c", Type: TypeURL},
		{Name: "Photo__c", Type: TypeBase64},
	}
	contact = append(contact, addressOf("Mailing")...)
	contact = append(contact, externalIDs...)
	contact = append(contact, owner)

	widget := []Field{
		{Name: "Name", Label: "Widget Name", Length: 80},
		{Name: "Account__c", Type: TypeReference, ReferenceTo: "Account"},
		{Name: "Color__c", Type: TypePicklist, Picklist: []string{"red", "green", "blue"}, Restricted: true},
		{Name: "Weight__c", Type: TypeDouble, Precision: 18, Scale: 6},
		{Name: "Price__c", Type: TypeCurrency},
		{Name: "Margin__c", Type: TypePercent, Precision: 5, Scale: 2},
		{Name: "Stock__c", Type: TypeInt, Precision: 8},
		{Name: "Made__c", Type: TypeDate},
		{Name: "Checked__c", Type: TypeDateTime},
		{Name: "Notes__c", Type: TypeTextarea, Length: 32768},
		{Name: "Live__c", Type: TypeBoolean, Default: false},
		{Name: "Manual__c", Type: TypeURL},
	}
	widget = append(widget, externalIDs...)
	widget = append(widget, owner)

	return []Object{
		{Name: "Account", KeyPrefix: "001", Fields: account},
		{Name: "Contact", KeyPrefix: "003", Fields: contact},
		{Name: "Widget__c", KeyPrefix: "a0W", Fields: widget},
		{Name: "User", KeyPrefix: "005", NoIsDeleted: true, ReadOnly: true, Fields: []Field{
			{Name: "Username", Length: 80, Required: true},
			{Name: "LastName", Length: 80, Required: true},
			{Name: "FirstName", Length: 40},
			{Name: "Name", Length: 121, ReadOnly: true},
			{Name: "Email", Type: TypeEmail, Length: 128, Required: true},
			{Name: "IsActive", Type: TypeBoolean, Default: true},
			{Name: "TimeZoneSidKey", Length: 40},
		}},
		{Name: "Organization", KeyPrefix: "00D", NoIsDeleted: true, ReadOnly: true, Fields: []Field{
			{Name: "Name", Length: 80},
			{Name: "IsReadOnly", Type: TypeBoolean, Default: false},
			{Name: "InstanceName", Length: 5},
			{Name: "IsSandbox", Type: TypeBoolean, Default: false},
			{Name: "OrganizationType", Type: TypePicklist, Length: 40},
			{Name: "NamespacePrefix", Length: 15},
			{Name: "TrialExpirationDate", Type: TypeDateTime},
		}},
	}
}
